"""botocore, which boto3 and the AWS CLI are made of, as a program would use it, told by its environment alone. Says what came of each step, one JSON object."""

import json

from botocore.exceptions import ClientError
from botocore.session import get_session

s3 = get_session().create_client("s3")
BUCKET = {"Bucket": "work"}
KEYS = ["work/a b&<c>", "work/d"]


def status(call, **given):
    try:
        return call(**BUCKET, **given)["ResponseMetadata"]["HTTPStatusCode"]
    except ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"]


def refusal(call, **given):
    try:
        call(**BUCKET, **given)
    except ClientError as error:
        return [error.response["Error"].get(name) for name in ("Code", "Reason")]


def listed():
    answer = s3.list_objects(**BUCKET, Prefix="work/")
    return [one["Key"] for one in answer.get("Contents", [])]


def delete(keys):
    return {"Delete": {"Objects": [{"Key": key} for key in keys]}}


for key in KEYS:
    s3.put_object(**BUCKET, Key=key, Body=b"outrider", ACL="private")
said = {
    "head": status(s3.head_bucket),
    "location": status(s3.get_bucket_location),
    "list": listed(),
    "uploads": status(s3.list_multipart_uploads, Prefix="work/"),
    # Ceph's smallest store says that it has copied, and has not: that the request is signed right is what it is asked here.
    "copy": status(s3.copy_object, Key="work/e", CopySource={**BUCKET, "Key": KEYS[0]}),
    "copy from outside": status(s3.copy_object, Key="work/e", CopySource="work/tenantA/told"),
    "told": refusal(s3.copy_object, Key="work/e", CopySource="work/tenantA/told"),
    "copy of a version": status(s3.copy_object, Key="work/e", CopySource={**BUCKET, "Key": KEYS[0], "VersionId": "1"}),
    "delete outside": status(s3.delete_objects, **delete([*KEYS, "tenantA/told"])),
    "left": listed(),
}
said["deleted"] = [one["Key"] for one in s3.delete_objects(**BUCKET, **delete(KEYS))["Deleted"]]
said["gone"] = listed()
print(json.dumps(said))
