"""PUTs an object in signed chunks, as the AWS SDK for Java does over http, written from AWS's description alone and with the standard
library alone: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html and sigv4-streaming-trailers.html.

usage: chunk_signed_put.py URL SIZE good|flipped|trailer|wrong-trailer; prints the status of the answer."""

import base64
import datetime
import hashlib
import hmac
import http.client
import sys
import urllib.parse
import zlib

url, size, variant = urllib.parse.urlsplit(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
key_id = secret = "OUTRIDER"
chunk_size = 64 * 1024
trailing = variant.endswith("trailer")
payload = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" + ("-TRAILER" if trailing else "")
body = (b"outrider rides " * (size // 15 + 1))[:size]
now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
scope = f"{now[:8]}/us-east-1/s3/aws4_request"

key = b"AWS4" + secret.encode()
for part in scope.split("/"):
    key = hmac.new(key, part.encode(), hashlib.sha256).digest()


def sign(*lines):
    return hmac.new(key, "\n".join(lines).encode(), hashlib.sha256).hexdigest()


def sha(data):
    return hashlib.sha256(data).hexdigest()


headers = {
    "content-encoding": "aws-chunked",
    "host": url.netloc,
    "x-amz-content-sha256": payload,
    "x-amz-date": now,
    "x-amz-decoded-content-length": str(size),
}
if trailing:
    headers["x-amz-trailer"] = "x-amz-checksum-crc32"
names = ";".join(sorted(headers))
canonical = "\n".join(
    ["PUT", urllib.parse.quote(url.path), "", *(f"{name}:{headers[name]}" for name in sorted(headers)), "", names, payload]
)
previous = sign("AWS4-HMAC-SHA256", now, scope, sha(canonical.encode()))
headers["authorization"] = f"AWS4-HMAC-SHA256 Credential={key_id}/{scope}, SignedHeaders={names}, Signature={previous}"

sent = []
for at in [*range(0, size, chunk_size), size]:
    chunk = body[at : at + chunk_size]
    previous = sign("AWS4-HMAC-SHA256-PAYLOAD", now, scope, previous, sha(b""), sha(chunk))
    if variant == "flipped" and 0 < size - at <= chunk_size:
        chunk = bytes([chunk[0] ^ 1]) + chunk[1:]
    sent.append(f"{len(chunk):x};chunk-signature={previous}\r\n".encode())
    if chunk:
        sent.append(chunk + b"\r\n")
if trailing:
    checksum = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
    signature = sign("AWS4-HMAC-SHA256-TRAILER", now, scope, previous, sha(f"x-amz-checksum-crc32:{checksum}\n".encode()))
    if variant == "wrong-trailer":
        checksum = "AAAAAA=="
    sent.append(f"x-amz-checksum-crc32:{checksum}\r\nx-amz-trailer-signature:{signature}\r\n".encode())
sent.append(b"\r\n")

connection = http.client.HTTPConnection(url.hostname, url.port, timeout=30)
encoded = b"".join(sent)
try:
    connection.request("PUT", urllib.parse.quote(url.path), encoded, {**headers, "content-length": str(len(encoded))})
except (BrokenPipeError, ConnectionResetError):
    pass  # the answer says why
answer = connection.getresponse()
print(answer.status, answer.getheader("x-outrider-reason") or "")
