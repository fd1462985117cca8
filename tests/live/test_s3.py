"""S3: credentials are found wherever AWS's own tools find them, and a lake that cannot hold commits is refused."""

import json
import random
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl

import pytest

import records
import tables
from parts import S3, topics
from tables import FIRST_READER, FORMATS, Entry

ROLE = "arn:aws:iam::000000000000:role/lake"
NOWHERE = {
    # What the configuration says of the endpoint counts.
    "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/nowhere",
    "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
}


def lake(s3, kafka, location, unique, **s3_settings):
    config = tables.config(
        kafka.lakebed_config(), location, [Entry(f"{unique}.t", "t", "delta")], unique,
        s3={"region": s3.region, "endpoint": s3.endpoint, "path_style": True, **s3_settings},
    )  # fmt: skip
    topics.create_topic(kafka, f"{unique}.t")
    return config


class Giver(BaseHTTPRequestHandler):
    """Gives credentials as EKS's pod identity does, and as an instance does (IMDSv2), to who shows what
    it was told to show."""

    protocol_version = "HTTP/1.1"
    token = "shown"

    def do_PUT(self):
        self.answer(self.token, self.path == "/latest/api/token")

    def do_GET(self):
        ends = datetime.now(UTC) + timedelta(hours=1)
        credentials = {
            "Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": S3.access_key,
            "SecretAccessKey": S3.secret_key, "Token": "session",
            "LastUpdated": "2026-01-01T00:00:00Z", "Expiration": ends.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }  # fmt: skip
        roles = "/latest/meta-data/iam/security-credentials"
        if self.path.startswith(roles):
            self.answer(
                json.dumps(credentials) if self.path.endswith("/lake") else "lake",
                self.headers.get("x-aws-ec2-metadata-token") == self.token,
            )
        else:
            self.answer(
                json.dumps(credentials),
                self.path == "/v1/credentials" and self.headers.get("Authorization") == self.token,
            )

    def answer(self, text, allowed):
        body = text.encode() if allowed else b""
        self.send_response(200 if allowed else 404)
        self.send_header("Content-Length", str(len(body)))
        # Of a token: how many seconds it is good for.
        self.send_header("x-aws-ec2-metadata-token-ttl-seconds", "600")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def giver():
    with ThreadingHTTPServer(("127.0.0.1", 0), Giver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    "way",
    ["configuration", "environment", "profile", "role", "web identity", "pod identity", "instance"],
)
def test_credentials_are_found(way, lakebed, kafka, s3, giver, tmp_path, unique):
    bucket = s3.create_bucket(unique)
    token = tmp_path / "token"
    # EKS writes it anew from time to time, without a newline at its end.
    token.write_text(Giver.token)
    profile = tmp_path / "credentials"
    profile.write_text(
        f"[lake]\naws_access_key_id = {s3.access_key}\naws_secret_access_key = {s3.secret_key}\n"
    )
    in_environment = {"AWS_ACCESS_KEY_ID": s3.access_key, "AWS_SECRET_ACCESS_KEY": s3.secret_key}
    settings, environment = {
        "configuration": (
            {"access_key_id": "${env:S3_ACCESS_KEY}", "secret_access_key": "${env:S3_SECRET_KEY}"},
            {},
        ),
        "environment": ({}, in_environment),
        "profile": ({}, {"AWS_PROFILE": "lake", "AWS_SHARED_CREDENTIALS_FILE": str(profile)}),
        "role": (
            {"role_arn": ROLE, "external_id": "ours"},
            {**in_environment, "AWS_ENDPOINT_URL_STS": s3.endpoint},
        ),
        # IRSA: what EKS puts into a pod whose service account has a role.
        "web identity": (
            {},
            {
                "AWS_WEB_IDENTITY_TOKEN_FILE": str(token),
                "AWS_ROLE_ARN": ROLE,
                "AWS_ENDPOINT_URL_STS": s3.endpoint,
            },
        ),
        "pod identity": (
            {},
            {
                "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{giver}/v1/credentials",
                "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token),
            },
        ),
        "instance": (
            {},
            {"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": giver},
        ),
    }[way]
    config = lake(s3, kafka, f"{bucket}/lake", unique, **settings)

    checked = lakebed.run(["check"], config, env={**NOWHERE, **environment})

    assert "is writable and enforces conditional puts" in checked.stdout, checked
    if way != "configuration":
        alone = lakebed.run(["check"], config, env=NOWHERE)
        assert alone.returncode == 1 and "credentials" in alone.stdout, alone


class Careless(BaseHTTPRequestHandler):
    """Says yes to every request, conditions or not."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer()

    def do_DELETE(self):
        self.answer()

    def answer(self):
        self.send_response(200)
        self.send_header("ETag", '"x"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Sts(Careless):
    """Beside that, gives whoever asks the credentials of a role. Keeps what was asked, and the key and
    the session that puts were signed with."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.path.endswith("?delete"):
            self.answer()
            return
        asked = dict(parse_qsl(body))
        self.server.asked.append(asked)
        action = asked["Action"]
        ends = datetime.now(UTC) + timedelta(hours=1)
        answer = (
            f"<{action}Response><{action}Result><Credentials><AccessKeyId>ofTheRole</AccessKeyId>"
            "<SecretAccessKey>secret</SecretAccessKey><SessionToken>itsSession</SessionToken>"
            f"<Expiration>{ends:%Y-%m-%dT%H:%M:%SZ}</Expiration></Credentials>"
            f"</{action}Result></{action}Response>"
        ).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def do_PUT(self):
        key = self.headers["Authorization"].split("Credential=")[1].split("/")[0]
        self.server.signed.append((key, self.headers["x-amz-security-token"]))
        super().do_PUT()


@pytest.mark.parametrize("way", ["role", "web identity"])
def test_a_role_is_taken_on_and_what_it_gives_signs(way, lakebed, kafka, s3, tmp_path, unique):
    token = tmp_path / "token"
    token.write_text("from EKS")
    settings, environment, wanted = {
        "role": (
            {"role_arn": ROLE, "external_id": "ours"},
            {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"},
            {"Action": "AssumeRole", "ExternalId": "ours", "RoleSessionName": "lakebed"},
        ),
        "web identity": (
            {},
            {"AWS_WEB_IDENTITY_TOKEN_FILE": str(token), "AWS_ROLE_ARN": ROLE},
            {"Action": "AssumeRoleWithWebIdentity", "WebIdentityToken": "from EKS"},
        ),
    }[way]
    with ThreadingHTTPServer(("127.0.0.1", 0), Sts) as server:
        server.asked, server.signed = [], []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        here = f"http://127.0.0.1:{server.server_port}"
        config = lake(s3, kafka, "s3://lake/x", unique, **settings)
        config["lake"]["s3"]["endpoint"] = here

        lakebed.run(
            ["check"], config, env={**NOWHERE, **environment, "AWS_ENDPOINT_URL_STS": here}
        )

        server.shutdown()
    assert server.asked, "nobody asked for the role"
    for asked in server.asked:
        assert asked["RoleArn"] == ROLE and asked.items() >= wanted.items(), asked
    assert set(server.signed) == {("ofTheRole", "itsSession")}


def test_an_endpoint_that_would_overwrite_commits_is_refused(lakebed, kafka, s3, unique):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Careless)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = lake(s3, kafka, "s3://lake/x", unique)
    config["lake"]["s3"]["endpoint"] = f"http://127.0.0.1:{server.server_port}"
    keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}

    ran = lakebed.run(["run", "--until-caught-up"], config, env={**NOWHERE, **keys})

    assert ran.returncode == 1, ran
    assert "overwrote an object" in ran.stderr and "If-None-Match" in ran.stderr, ran.stderr
    server.shutdown()


def test_files_that_are_sent_in_parts_are_what_was_written(lakebed, kafka, s3, unique):
    """As every file is that takes over rows of another one. A part has 8 MiB, and random text does
    not get smaller than half of it."""
    bucket, topic = s3.create_bucket(unique), f"{unique}.t"
    rng = random.Random(unique)
    wanted = {n: rng.randbytes(350_000).hex() for n in range(30)}
    inserts = [records.record(topic, n, {"id": n, "v": v}) for n, v in wanted.items()]
    update = records.record(topic, len(wanted), {"id": 7, "v": "short"}, "u")
    wanted[7] = "short"
    entries = [Entry(topic, kind, kind) for kind in FORMATS]
    config = tables.config(
        kafka.lakebed_config(), f"{bucket}/lake", entries, unique, s3=s3.lakebed_config()
    )
    config["lake"]["bronze"] = False
    for table in config["tables"]:
        table["mode"] = "copy-on-write"
    topics.create_topic(kafka, topic)

    for batch in (inserts, [update]):
        topics.produce(kafka, batch)
        lakebed.start(config, "run", "--until-caught-up").expect(0, 120)

    for entry in entries:
        place = entry.place(f"{bucket}/lake", "silver")
        rows = FIRST_READER[entry.format](place, s3)
        assert {row["id"]: row["v"] for row in rows} == wanted
        prefix = place.removeprefix(f"{bucket}/")
        listed = s3.client().list_objects_v2(Bucket=unique, Prefix=prefix)["Contents"]
        # S3's tag of what was put whole has no dash.
        in_parts = [file["Size"] for file in listed if "-" in file["ETag"]]
        assert in_parts and min(in_parts) > 8 << 20, listed
    assert not s3.client().list_multipart_uploads(Bucket=unique).get("Uploads")
