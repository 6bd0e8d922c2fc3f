"""The WinCLIP baseline."""
