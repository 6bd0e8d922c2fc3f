# %% [markdown]
# # Own images
# A folder with good and bad photographs is enough: `photos/good`, `photos/scratch`.
# Here both are drawn; put the path of yours.

# %%
from pathlib import Path
from tempfile import mkdtemp

import adcommon as ad
from adcommon.testing.trees import make_folder
from baselines import padim

work = Path(mkdtemp())
photos = make_folder(work / "photos", good=60, defects=("scratch",))

# %% [markdown]
# What was understood of it: normal images to learn from, others to test with.
# Anomalous ones are never learned from.

# %%
data = ad.folder(photos)
bad = sum(record.label for record in data.test)
print(f"{len(data.train)} to learn from; {len(data.test)} to test with, {bad} of them anomalous")

# %% [markdown]
# PaDiM trains nothing and is done in seconds.
# `recontrast.fit`, `uniad.fit` and `realnet.fit` are called alike.

# %%
run = padim.fit(padim.RECIPES["small"], data, out=work / "run")
model = run.model

# %% [markdown]
# The threshold comes from good images alone. This is what it is worth:

# %%
print(model.calibration.worth)

# %% [markdown]
# The worst first. `decision` is "unknown" where too few good images support a threshold.

# %%
results = sorted(model.predict([record.image for record in data.test]), key=lambda result: -result.score)
for result in results[:5]:
    name = f"{result.path.parent.name}/{result.path.name}"
    print(f"{result.score:8.1f}  {result.decision:9}  p {result.p_value:.3f}  {name}")

# %% [markdown]
# Where: the map has the image's own size; above the threshold lies what hardly any good image reaches.

# %%
worst = results[0]
row, column = divmod(int(worst.anomaly_map.argmax()), worst.anomaly_map.shape[1])
print(f"{worst.path.name}: the peak is at row {row}, column {column} of {worst.anomaly_map.shape}")
