"""S3 and Glue by ministack, which enforces conditional writes and Glue's version ids.

Never kill it with SIGKILL in a test: it saves Glue's tables at a clean stop only. Kill the program
under test instead.
"""

import sys

import boto3
import botocore.config
import requests

from parts.ports import free_port
from parts.process import Part


class S3(Part):
    name = "s3"
    region = "us-east-1"
    access_key = "test"
    secret_key = "test"

    def __init__(self) -> None:
        super().__init__()
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def command(self):
        return [sys.executable, "-m", "ministack"]

    def environment(self):
        return {
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(self.port),
            "S3_PERSIST": "1",
            "S3_DATA_DIR": str(self.data / "s3"),
            "PERSIST_STATE": "1",
            "STATE_DIR": str(self.data / "state"),
            "PYTHONUNBUFFERED": "1",
        }

    def is_ready(self) -> bool:
        try:
            return requests.get(f"{self.endpoint}/_ministack/health", timeout=5).ok
        except requests.RequestException:
            return False

    def reset(self) -> None:
        """Forgets every bucket and every Glue table."""
        requests.post(f"{self.endpoint}/_ministack/reset", timeout=30).raise_for_status()

    def client(self, service: str = "s3"):
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=botocore.config.Config(s3={"addressing_style": "path"}),
        )

    def create_bucket(self, name: str) -> str:
        self.client().create_bucket(Bucket=name)
        return f"s3://{name}"

    def lakebed_config(self) -> dict:
        """The ``lake.s3`` section of a configuration; ``Lakebed`` sets the two variables."""
        return {
            "region": self.region,
            "endpoint": self.endpoint,
            "path_style": True,
            "access_key_id": "${env:S3_ACCESS_KEY}",
            "secret_access_key": "${env:S3_SECRET_KEY}",
        }
