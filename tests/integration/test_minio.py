"""The store in a bucket of MinIO, a second server that was written by others: what other tests do at length on Ceph's gateway, in short.

# run last: the server is built in the background when it is not in its cache yet (s3server.py)

What it checks is made to fail on Ceph's gateway (test_s3.py)."""

import concurrent.futures
import time

import pytest
from confluent_kafka.admin import AdminClient

from harness import eventually
from test_faults import Trickle
from test_s3 import KEYS, PREFIX, each, every_byte_comes_back, refused, run_case, settings, small_pages, store_by_itself, through_kills, under_load
from wire import Wire, batch


@pytest.mark.parametrize("wal", ["file", "none"])
def test_every_byte_comes_back(brokers, processes, client, minio, wal):
    every_byte_comes_back(brokers, processes, client, minio, wal, 20_000)


@pytest.mark.parametrize("wal", ["none"])
def test_kills(brokers, processes, client, minio, wal):
    through_kills(brokers, processes, client, minio, wal, 20_000)


@each((under_load, "none", "reset after"), (under_load, "file", "409 after"), (small_pages, "none"))
def test_faults(minio, asked):
    function, wal, *arguments = asked
    run_case(minio, function, wal, arguments)


def test_creates_only_what_is_absent(minio):
    bucket, c = minio.bucket(), minio.client

    def create(n):
        return c.request("PUT", f"/{bucket}/one", body=b"%d" % n, headers={"if-none-match": "*"}, allow=(409, 412))[0]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(create, range(16)))
    assert statuses.count(200) == 1, statuses
    assert c.get(bucket, "one") == b"%d" % statuses.index(200)
    assert create(99) == 412


def test_the_store_by_itself(minio):
    # MinIO lists unfinished uploads of whole keys only.
    store_by_itself(minio, lists_uploads=False)


def test_what_is_deleted_goes(brokers, minio):
    bucket = minio.bucket()
    b = brokers(settings(minio, bucket, **{"upload.interval.ms": 100, "checkpoint.interval.ms": 200}), env=KEYS)
    with Wire(b.port) as w:
        w.create("kept")
        w.create("gone")
        w.produce("kept", 0, batch([b"k" * 1000]))
    time.sleep(1)  # an object is freed when nothing in it is needed
    t = Trickle(b, "gone")
    t.send(100)
    t.finish()
    held = eventually(lambda: (size := sum(minio.client.list(bucket, PREFIX).values())) > 9_000_000 and size, what="it is uploaded")
    admin = AdminClient({"bootstrap.servers": b.address})
    admin.delete_topics(["gone"])["gone"].result(30)
    eventually(lambda: sum(minio.client.list(bucket, PREFIX).values()) < held / 3, 60, 0.2, "objects are deleted")
    b.restart()
    with Wire(b.port) as w:
        assert w.list_offsets("kept", 0, -1)[2] == 1
    b.stop()


def test_wrong_region(brokers, minio):
    bucket = minio.bucket()
    refused(brokers({"storage.url": minio.url(bucket, region="eu-west-7")}, env=KEYS, start=False), "region", minio.region)


def test_wrong_keys(brokers, minio):
    bucket = minio.bucket()
    refused(brokers({"storage.url": minio.url(bucket)}, env={**KEYS, "AWS_SECRET_ACCESS_KEY": "not-this"}, start=False), "secret")
    assert not minio.client.list(bucket)
