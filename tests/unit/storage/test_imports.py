"""What a serving process loads of the storage room stays light."""

import subprocess
import sys

HEAVY = ("pyarrow", "pandas", "sqlalchemy", "deltalake", "feast", "grpc")


def test_the_online_store_loads_nothing_heavy() -> None:
    """Keys, rows and the store come with NumPy, Polars and the Redis client only."""
    program = (
        "import sys; from featurestore.storage import keys, launcher, redis, rows; "
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "[]"


def test_who_has_no_url_does_without_the_clients_of_object_stores() -> None:
    """A notebook's first join waits for no library that it does not use."""
    program = "import sys; from featurestore import FeatureStore; print('pyarrow' in sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "False"
