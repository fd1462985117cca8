"""The examples that users copy: what AWS would say of them, where that can be known without it."""

import json
import re
from pathlib import Path

import boto3
import botocore.validate
import cfnlint.api
import pytest
import yaml

import records
from parts import S3, topics
from parts.connect import EXAMPLES

AWS = EXAMPLES.parent / "aws"
WRITER = EXAMPLES.parents[1] / "docs" / "iam" / "writer.json"
TEMPLATE = AWS / "lake.yaml"

# What MSK Connect needs and a plain worker does not, and the other way round.
_ENCRYPTED = {"postgres": {"database.sslmode"}, "mysql": {"database.ssl.mode"}}
_HISTORY = re.compile(r"schema\.history\.internal\.(producer|consumer)\.(security|sasl)\..*")


@pytest.mark.parametrize("database", ["postgres", "mysql"])
def test_msk_connect_gets_the_same_connector(database):
    plain = json.loads((EXAMPLES / f"{database}.json").read_text())
    msk = json.loads((EXAMPLES / f"msk-connect-{database}.json").read_text())
    client = boto3.client("kafkaconnect", region_name="eu-west-1")
    shape = client.meta.service_model.operation_model("CreateConnector").input_shape
    report = botocore.validate.ParamValidator().validate(msk, shape)
    assert not report.has_errors(), report.generate_report()

    there = msk["connectorConfiguration"]
    added = there.keys() - plain.keys()
    assert _ENCRYPTED[database] <= added
    assert all(_HISTORY.fullmatch(name) for name in added - _ENCRYPTED[database]), added
    different = {name for name, value in plain.items() if there.get(name) != value}
    assert {plain[name] for name in different} == {
        f"${{env:SHOP_{name}}}"
        for name in [f"{database.upper()}_{part}" for part in ("HOST", "PORT", "PASSWORD")]
        + (["KAFKA"] if database == "mysql" else [])
    }
    secrets = {there[name] for name in different if plain[name] != "${env:SHOP_KAFKA}"}
    assert secrets == {f"${{secretsmanager:shop/{database}:{p}}}" for p in ("host", "port", "password")}


def test_the_template_is_one_that_cloud_formation_takes():
    found = cfnlint.api.lint_file(TEMPLATE)
    assert not found, found


def test_the_role_of_the_template_may_do_what_the_policy_says(s3):
    """`docs/iam/writer.json`, with the names filled in, but for the key that the template does not make."""
    template = _loaded(TEMPLATE)
    (policy,) = template["Resources"]["Writer"]["Properties"]["Policies"]
    made = {each["Sid"]: each for each in policy["PolicyDocument"]["Statement"]}
    told = {each["Sid"]: each for each in json.loads(WRITER.read_text())["Statement"]}
    assert told.keys() - made.keys() == {"KeyOfTheBucket"} and made.keys() < told.keys()
    names = {
        "${AWS::Partition}": "aws", "${AWS::Region}": "REGION", "${AWS::AccountId}": "ACCOUNT",
        "${Bucket}": "BUCKET", "${Prefix}": "PREFIX", "${BronzeDatabase}": "BRONZE",
        "${SilverDatabase}": "SILVER",
    }  # fmt: skip
    text = json.dumps(made)
    for name, filled in names.items():
        text = text.replace(name, filled)
    text = text.replace('"Prefix"', '"PREFIX"')
    assert json.loads(text) == {sid: told[sid] for sid in made}


def test_lakebed_runs_on_what_the_template_makes(lakebed, kafka, s3, unique):
    """Bucket and databases by CloudFormation, and the example's configuration, but for the addresses."""
    bucket = unique.replace("_", "-")
    parameters = {"BucketName": bucket, "BronzeDatabase": f"{unique}_b", "SilverDatabase": f"{unique}_s"}
    _deploy(s3, unique, parameters)
    config = yaml.safe_load((AWS / "lakebed.yaml").read_text())
    assert config["kafka"]["bootstrap_servers"] == "${env:KAFKA_BOOTSTRAP_SERVERS}"
    config["kafka"]["group_id"] = unique
    config["lake"] |= {"location": f"s3://{bucket}/lake", "s3": s3.lakebed_config()}
    config["lake"]["catalog"]["endpoint"] = s3.endpoint
    config["lake"]["bronze"]["database"] = parameters["BronzeDatabase"]
    config["lake"]["silver"]["database"] = parameters["SilverDatabase"]
    config["http"] = False
    for number, table in enumerate(config["tables"]):
        table["topic"] = f"{unique}.{number}"
        topics.create_topic(kafka, table["topic"])
        made = [records.record(table["topic"], 1, {"id": 1, "v": "a"}, "c")]
        topics.produce(kafka, made)
    env = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap}
    lakebed.start(config, "run", "--until-caught-up", env=env).expect(0, 90)
    for table in config["tables"]:
        name = f"{parameters['SilverDatabase']}.{table['name']}"
        shown = lakebed.run(["show", name, "--count"], config, env=env)
        assert shown.stdout.strip() == "1", shown


def _deploy(s3: S3, name: str, parameters: dict[str, str]) -> None:
    client = s3.client("cloudformation")
    client.create_stack(
        StackName=name,
        TemplateBody=TEMPLATE.read_text(),
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in parameters.items()],
    )
    client.get_waiter("stack_create_complete").wait(
        StackName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 30}
    )


def _loaded(file: Path) -> dict:
    """YAML with CloudFormation's short functions; of those only `!Sub` and `!Ref` are looked at here."""

    class Loader(yaml.SafeLoader):
        pass

    def function(loader, _, node):
        if isinstance(node, yaml.ScalarNode):
            return loader.construct_scalar(node)
        return loader.construct_sequence(node)

    Loader.add_multi_constructor("!", function)
    return yaml.load(file.read_text(), Loader)
