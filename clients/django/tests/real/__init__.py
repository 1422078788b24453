"""The package with the real sse, and with the site in processes of its own."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[4] / "test" / "django"))  # for its harness
