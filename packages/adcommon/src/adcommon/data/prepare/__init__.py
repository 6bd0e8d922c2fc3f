"""Preparers: one module per dataset, with a dataclass whose fields are options and whose `plan` lists files.

carry_out(Ksdd().plan(Path("KolektorSDD"), Path("data/SDD_anomaly_detection")))
"""
