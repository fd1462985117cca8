"""Where a table lies: a local folder, one Iceberg metadata file, or either on S3."""

from pathlib import Path

from parts.s3 import S3


def local(place: str | Path) -> str:
    text = str(place)
    if text.startswith("file:"):
        text = "/" + text.removeprefix("file:").lstrip("/")
    return text if text.startswith("s3://") else str(Path(text).absolute())


def is_s3(place: str | Path) -> bool:
    return str(place).startswith("s3://")


def metadata_file(place: str | Path, s3: S3 | None = None) -> str:
    """The newest Iceberg metadata file, as the hint beside it names it (or the file itself)."""
    text = local(place)
    if text.endswith(".metadata.json"):
        return text
    hint = f"{text}/metadata/version-hint.text"
    return f"{text}/metadata/v{_read(hint, s3)}.metadata.json"


def folder(place: str | Path) -> str:
    """The table's folder, also where its metadata file was named."""
    text = local(place)
    return text.rsplit("/metadata/", 1)[0] if text.endswith(".metadata.json") else text


def _read(file: str, s3: S3 | None) -> str:
    if not is_s3(file):
        return Path(file).read_text()
    if s3 is None:
        raise ValueError(f"{file}: say which S3")
    bucket, key = file.removeprefix("s3://").split("/", 1)
    return s3.client().get_object(Bucket=bucket, Key=key)["Body"].read().decode()
