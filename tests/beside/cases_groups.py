"""Classic groups and their offsets: members of one group after the other, good and bad requests, in every version."""

import struct

import compare
from cases_common import known_id, topic

FOREVER = 60_000  # a session that does not end within the test


def twin(c):
    """A second connection to the same broker, for a request that waits while others are sent. Its steps are `c`'s."""
    t = compare.Side(c.name, c.port, c.apis, c.served)
    t.symbols, t.steps, t.case, t.slow = c.symbols, c.steps, c.case, c.slow
    return t


def join_fields(group, member="", session=FOREVER, protocols=(("range", b"meta"),), kind="consumer", **more):
    return {"group_id": group, "session_timeout_ms": session, "rebalance_timeout_ms": 5000, "member_id": member, "protocol_type": kind,
            "protocols": [{"name": n, "metadata": m} for n, m in protocols], **more}


def learnt(c, answer, who):
    c.learn(answer.get("member_id"), f"member {who}")
    return answer


def join(c, note, v, who, group, member="", **more):
    return learnt(c, c.call(note, "JoinGroup", v, **join_fields(group, member, **more)), who)


def joined(c, v, who, group, **more):
    """Joins as a client does; (member id, generation)."""
    answer = join(c, "joins", v, who, group, **more)
    if answer["error_code"] == 79:
        answer = join(c, "joins with its id", v, who, group, answer["member_id"], **more)
    return answer["member_id"], answer["generation_id"]


def sync_fields(group, generation, member, parts=(), **more):
    return {"group_id": group, "generation_id": generation, "member_id": member,
            "assignments": [{"member_id": m, "assignment": a} for m, a in parts], **more}


def stable(c, who, group, v=5, **more):
    """A group of one member, with its assignment."""
    member, generation = joined(c, v, who, group, **more)
    c.call("takes its assignment", "SyncGroup", min(v, 3), **sync_fields(group, generation, member, [(member, b"all of it")]))
    return member, generation


def described(c, note, group):
    c.call(note, "DescribeGroups", c.newest("DescribeGroups"), groups=[group])


def join_group(c):
    for v in c.versions("JoinGroup"):
        name = f"join-{v}"
        for note, fields in (("empty group", {"group_id": ""}), ("no protocols", {"protocols": []}), ("empty type", {"protocol_type": ""}),
                             ("session too short", {"session_timeout_ms": 999}), ("session too long", {"session_timeout_ms": 1_800_001}),
                             ("session negative", {"session_timeout_ms": -1}), ("unknown member", {"member_id": "nobody"})):
            c.call(note, "JoinGroup", v, **{**join_fields(f"bad-{v}"), **fields})
        described(c, "refused: no group", f"bad-{v}")
        c.ask("DeleteGroups", 1, groups_names=[f"bad-{v}"])
        member, generation = joined(c, v, f"a of {name}", name, protocols=(("range", b"m1"), ("sticky", b"m2")))
        described(c, "joined", name)
        other = join_fields(name, protocols=(("other", b""),))
        c.call("no protocol in common", "JoinGroup", v, **other)
        c.call("another type", "JoinGroup", v, **join_fields(name, kind="connect"))
        c.call("unknown member of a group", "JoinGroup", v, **join_fields(name, "nobody"))
        c.call("takes its assignment", "SyncGroup", 3, **sync_fields(name, generation, member, [(member, b"assigned")]))
        join(c, "leader joins again", v, f"a of {name}", name, member, protocols=(("sticky", b"m3"), ("range", b"m1")))
        described(c, "joined again", name)
        c.call("leaves", "LeaveGroup", 1, group_id=name, member_id=member)
        described(c, "left", name)
        member, _ = joined(c, v, f"b of {name}", name, kind="connect", protocols=(("x", b""), ))
        c.call("leaves again", "LeaveGroup", 1, group_id=name, member_id=member)


def two_members(c):
    """A second member joins: who hears what, and when."""
    for v in c.versions("JoinGroup", 2):
        name = f"two-{v}"
        a, generation = stable(c, f"a of {name}", name, v, protocols=(("range", b"a1"), ("sticky", b"a2")))
        other = twin(c)
        want = join_fields(name, protocols=(("only b", b"b3"), ("range", b"b1"), ("sticky", b"b2")))
        b = ""
        if v >= 4:
            b = learnt(c, c.call("is told its id", "JoinGroup", v, **want), f"b of {name}")["member_id"]
        other.send("JoinGroup", v, **{**want, "member_id": b})
        compare.wait_for(lambda: c.ask("Heartbeat", 1, group_id=name, generation_id=generation, member_id=a)["error_code"] == 27)  # noqa: B023
        c.call("heartbeat while it is rebalanced", "Heartbeat", c.newest("Heartbeat"), group_id=name, generation_id=generation, member_id=a)
        c.call("sync while it is rebalanced", "SyncGroup", 3, **sync_fields(name, generation, a))
        described(c, "rebalancing", name)
        again = join(c, "first one joins again", v, f"a of {name}", name, a, protocols=(("range", b"a1"), ("sticky", b"a2")))
        learnt(c, second := other.got("second one joined", "JoinGroup", v), f"b of {name}")
        generation, b = again["generation_id"], second["member_id"]
        c.call("heartbeat before the assignment", "Heartbeat", 3, group_id=name, generation_id=generation, member_id=a)
        c.call("sync of an old generation", "SyncGroup", 3, **sync_fields(name, generation - 1, a))
        described(c, "awaiting", name)
        other.send("SyncGroup", 3, **sync_fields(name, generation, b))
        c.call("the leader's assignment", "SyncGroup", 3, **sync_fields(name, generation, a, [(a, b"for a"), (b, b"for b"), ("nobody", b"x")]))
        other.got("the other's assignment", "SyncGroup", 3)
        described(c, "stable", name)
        c.call("asks again", "SyncGroup", 3, **sync_fields(name, generation, b, [(a, b"not the leader")]))
        c.call("second one leaves", "LeaveGroup", 1, group_id=name, member_id=b)
        c.call("first one hears", "Heartbeat", 3, group_id=name, generation_id=generation, member_id=a)
        join(c, "first one alone", v, f"a of {name}", name, a)
        c.call("all gone", "LeaveGroup", 1, group_id=name, member_id=a)
        other.close()


def sync_group(c):
    for v in c.versions("SyncGroup"):
        name = f"sync-{v}"
        member, generation = joined(c, 5, f"a of {name}", name)
        for note, fields in (("empty group", {"group_id": "", "protocol_type": "consumer", "protocol_name": "range"} if v >= 5 else {"group_id": ""}),
                             ("unknown group", {"group_id": "nobody"}), ("unknown member", {"member_id": "nobody"}), ("old generation", {"generation_id": generation - 1}), ("generation of the future", {"generation_id": generation + 1}),
                             ("empty member", {"member_id": ""})):
            c.call(note, "SyncGroup", v, **{**sync_fields(name, generation, member), **fields})
        if v >= 5:
            c.call("another type", "SyncGroup", v, **sync_fields(name, generation, member, protocol_type="connect", protocol_name="range"))
            c.call("another protocol", "SyncGroup", v, **sync_fields(name, generation, member, protocol_type="consumer", protocol_name="sticky"))
        more = {"protocol_type": "consumer", "protocol_name": "range"} if v >= 5 else {}
        c.call("assigns", "SyncGroup", v, **sync_fields(name, generation, member, [(member, b"assigned")], **more))
        c.call("asks again", "SyncGroup", v, **sync_fields(name, generation, member, **more))
        if v >= 3:
            c.call("with an instance that it is not", "SyncGroup", v, **sync_fields(name, generation, member, group_instance_id="i", **more))
        c.call("leaves", "LeaveGroup", 1, group_id=name, member_id=member)
        c.call("after it left", "SyncGroup", v, **sync_fields(name, generation, member, **more))


def heartbeat(c):
    for v in c.versions("Heartbeat"):
        name = f"heart-{v}"
        member, generation = stable(c, f"a of {name}", name)

        def beat(note, v=v, **fields):
            c.call(note, "Heartbeat", v, **{"group_id": name, "generation_id": generation, "member_id": member, **fields})  # noqa: B023
        beat("good")
        beat("empty group", group_id="")
        beat("unknown group", group_id="nobody")
        beat("unknown member", member_id="nobody")
        beat("empty member", member_id="")
        beat("old generation", generation_id=generation - 1)
        beat("generation -1", generation_id=-1)
        if v >= 3:
            beat("an instance that it is not", group_instance_id="i")
        c.call("leaves", "LeaveGroup", 1, group_id=name, member_id=member)
        beat("after it left")


def leave_group(c):
    for v in c.versions("LeaveGroup"):
        name = f"leave-{v}"
        member, _ = stable(c, f"a of {name}", name)

        def leave(note, *members, group=name, v=v):
            fields = {"member_id": members[0][0]} if v < 3 else {"members": [dict(zip(("member_id", "group_instance_id"), m)) for m in members]}
            c.call(note, "LeaveGroup", v, group_id=group, **fields)
        leave("empty group", (member, None), group="")
        leave("unknown group", (member, None), group="nobody")
        leave("unknown member", ("nobody", None))
        leave("empty member", ("", None))
        if v >= 3:
            leave("nobody of it")
            leave("unknown instance", ("", "i"))
            leave("an instance that it is not", (member, "i"))
            leave("one good, one bad", ("nobody", None), (member, None))
        else:
            leave("good", (member, None))
        leave("again", (member, None))
        described(c, "left", name)


def static_members(c):
    for v in c.versions("JoinGroup", 5):
        name = f"static-{v}"
        a, generation = stable(c, f"a of {name}", name, v, group_instance_id="one")
        described(c, "stable", name)
        again = join(c, "comes back without its id", v, f"a2 of {name}", name, group_instance_id="one")
        a2 = again.get("member_id", "")
        c.call("its assignment", "SyncGroup", 3, **sync_fields(name, again["generation_id"], a2, group_instance_id="one"))
        described(c, "came back", name)
        for api, version in (("Heartbeat", 3), ("SyncGroup", 3)):
            fields = {"group_id": name, "generation_id": generation, "member_id": a, "group_instance_id": "one"}
            c.call("its old id", api, version, **fields)
            c.call("its old id, without an instance", api, version, **{**fields, "group_instance_id": None})
            c.call("unknown instance", api, version, **{**fields, "group_instance_id": "two"})
        c.call("join with its old id", "JoinGroup", v, **join_fields(name, a, group_instance_id="one"))
        c.call("join of an unknown instance with an id", "JoinGroup", v, **join_fields(name, a2, group_instance_id="three"))
        c.call("commit with its old id", "OffsetCommit", 7, group_id=name, generation_id_or_member_epoch=generation, member_id=a, group_instance_id="one",
               topics=[{"name": "committed", "partitions": [{"partition_index": 0, "committed_offset": 1}]}])
        c.call("leaves with its old id", "LeaveGroup", 3, group_id=name, members=[{"member_id": a, "group_instance_id": "one"}])
        c.call("leaves by its instance", "LeaveGroup", 3, group_id=name, members=[{"member_id": "", "group_instance_id": "one"}])
        described(c, "left", name)


def commit_part(index=0, offset=5, metadata="m", **more):
    return {"partition_index": index, "committed_offset": offset, "committed_metadata": metadata, **more}


def commit_topics(c, *parts, name="committed"):
    return [{"name": name, "topic_id": known_id(c, name), "partitions": list(parts)}]


def offset_commit(c):
    topic(c, "committed", 3)
    for v in c.versions("OffsetCommit"):
        name = f"commit-{v}"

        def commit(note, topics=None, v=v, **fields):
            c.call(note, "OffsetCommit", v, **{"group_id": f"commit-{v}", "topics": commit_topics(c, commit_part()) if topics is None else topics, **fields})
        commit("of no member")
        commit("empty group", group_id="")
        for offset in (0, -1, -2, 1 << 40):
            commit(f"offset {offset}", commit_topics(c, commit_part(1, offset)))
        commit("metadata of 4096", commit_topics(c, commit_part(metadata="x" * 4096)))
        commit("metadata of 4097", commit_topics(c, commit_part(metadata="x" * 4097), commit_part(1)))
        commit("no metadata", commit_topics(c, commit_part(metadata=None)))
        commit("empty metadata", commit_topics(c, commit_part(metadata="")))
        commit("unknown topic", commit_topics(c, commit_part(), name="nobody"))
        commit("known and unknown", commit_topics(c, commit_part(2, 77)) + commit_topics(c, commit_part(), name="nobody"))
        commit("no such partition", commit_topics(c, commit_part(3), commit_part(-1), commit_part(0)))
        commit("nothing", [])
        commit("topic without partitions", commit_topics(c))
        commit("twice", commit_topics(c, commit_part(0, 8), commit_part(0, 9)))
        if v >= 6:
            commit("with an epoch", commit_topics(c, commit_part(committed_leader_epoch=3)))
        if v >= 1:
            commit("a member of an empty group", generation_id_or_member_epoch=1, member_id="nobody")
            commit("a generation without a member", generation_id_or_member_epoch=1)
            commit("unknown group", group_id="commit-nobody", generation_id_or_member_epoch=1, member_id="nobody")
            member, generation = stable(c, f"a of {name}", name)
            commit("of a member", generation_id_or_member_epoch=generation, member_id=member)
            commit("of an unknown member", generation_id_or_member_epoch=generation, member_id="nobody")
            commit("of an old generation", generation_id_or_member_epoch=generation - 1, member_id=member)
            commit("of a member without a generation", member_id=member)
            commit("of no member, beside members")
            if v >= 7:
                commit("an instance that it is not", generation_id_or_member_epoch=generation, member_id=member, group_instance_id="i")
            c.call("leaves", "LeaveGroup", 1, group_id=name, member_id=member)
        c.call("what is committed", "OffsetFetch", 5, group_id=name, topics=[{"name": "committed", "partition_indexes": [0, 1, 2]}])


def offset_fetch(c):
    topic(c, "fetched", 3)
    name = "fetch-offsets"
    parts = [commit_part(0, 10, "zero", committed_leader_epoch=0), commit_part(1, 11, None)]
    c.ask("OffsetCommit", 7, group_id=name, topics=commit_topics(c, *parts, name="fetched"))

    for v in c.versions("OffsetFetch"):
        def wanted(*indexes, of="fetched", v=v):
            return [{"partition_indexes": list(indexes), **({"name": of} if v < 10 else {"topic_id": known_id(c, of)})}]

        def ask(note, topics, group=name, v=v, **more):
            fields = {"group_id": group, "topics": topics} if v < 8 else {"groups": [{"group_id": group, "topics": topics, **more.pop("group", {})}]}
            c.call(note, "OffsetFetch", v, **fields, **more)
        ask("some", wanted(0, 1, 2))
        ask("no such partition", wanted(9, -1))
        ask("unknown topic", wanted(0, of="nobody"))
        ask("none", [])
        ask("topic without partitions", wanted())
        ask("twice", wanted(0, 0))
        ask("unknown group", wanted(0), group="nobody")
        ask("empty group", wanted(0), group="")
        if v >= 2:
            ask("all", None)
            ask("all of an unknown group", None, group="nobody")
        if v >= 7:
            ask("stable ones", wanted(0, 1), require_stable=True)
        if v >= 8:
            c.call("several groups", "OffsetFetch", v, groups=[{"group_id": g, "topics": wanted(0)} for g in (name, "nobody", "")])
            # No groups at all are not asked for: Kafka 3 never answers that.
        if v >= 9:
            c.call("a member of no such epoch", "OffsetFetch", v, groups=[{"group_id": name, "topics": wanted(0), "member_id": "nobody", "member_epoch": 3}])


def consumer_metadata(*topics):
    """A consumer's subscription, as its protocol has it."""
    names = b"".join(struct.pack(">h", len(t)) + t.encode() for t in topics)
    return struct.pack(">hi", 0, len(topics)) + names + struct.pack(">i", -1)


def offset_delete(c):
    topic(c, "deleted", 2)
    topic(c, "subscribed")
    for v in c.versions("OffsetDelete"):
        name = "delete-offsets"

        def delete(note, *indexes, group=name, of="deleted", v=v):
            c.call(note, "OffsetDelete", v, group_id=group, topics=[{"name": of, "partitions": [{"partition_index": i} for i in indexes]}])

        def left(note):
            c.call(note, "OffsetFetch", 5, group_id=name, topics=None)
        for t, parts in (("deleted", (commit_part(0), commit_part(1))), ("subscribed", (commit_part(0),))):
            c.ask("OffsetCommit", 7, group_id=name, topics=commit_topics(c, *parts, name=t))
        delete("one", 0)
        left("after one")
        delete("again", 0)
        delete("no such partition", 9, -1)
        delete("unknown topic", 0, of="nobody")
        delete("unknown group", 0, group="nobody")
        delete("empty group", 0, group="")
        c.call("nothing", "OffsetDelete", v, group_id=name, topics=[])
        member, _ = stable(c, f"a of {name}", name, protocols=(("range", consumer_metadata("subscribed")),))
        delete("of a topic that is subscribed to", 0, of="subscribed")
        delete("of another topic", 1)
        left("beside a member")
        c.call("leaves", "LeaveGroup", 1, group_id=name, member_id=member)
        delete("after it left", 0, of="subscribed")
        left("in the end")
        member, _ = stable(c, f"b of {name}", name, kind="connect")
        c.ask("OffsetCommit", 7, group_id="delete-connect", topics=commit_topics(c, commit_part(), name="deleted"))
        delete("of a group that is no consumers'", 0)
        c.call("leaves", "LeaveGroup", 1, group_id=name, member_id=member)


def describe_groups(c):
    member, _ = stable(c, "a of describe", "describe", group_instance_id="i")
    c.ask("OffsetCommit", 7, group_id="simple", topics=commit_topics(c, commit_part()))
    for v in c.versions("DescribeGroups"):
        c.call("stable", "DescribeGroups", v, groups=["describe"])
        c.call("several", "DescribeGroups", v, groups=["describe", "nobody", "", "simple"])
        c.call("twice", "DescribeGroups", v, groups=["describe", "describe"])
        c.call("none", "DescribeGroups", v, groups=[])
        if v >= 3:
            c.call("operations", "DescribeGroups", v, groups=["describe", "nobody"], include_authorized_operations=True)
    c.ask("LeaveGroup", 1, group_id="describe", member_id=member)


def list_groups(c):
    member, _ = stable(c, "a of list", "list")
    for v in c.versions("ListGroups"):
        c.call("all", "ListGroups", v)
        if v >= 4:
            for states in (["Stable"], ["Empty"], ["stable", "EMPTY"], ["Dead"], ["Nonsense"], [""]):
                c.call(f"states {states}", "ListGroups", v, states_filter=states)
        if v >= 5:
            for types in (["classic"], ["Classic"], ["consumer"], ["share"], ["nonsense"]):
                c.call(f"types {types}", "ListGroups", v, types_filter=types)
            c.call("state and type", "ListGroups", v, states_filter=["Stable"], types_filter=["classic"])
    c.ask("LeaveGroup", 1, group_id="list", member_id=member)


def delete_groups(c):
    for v in c.versions("DeleteGroups"):
        name = f"doomed-{v}"
        member, _ = stable(c, f"a of {name}", name)
        c.ask("OffsetCommit", 7, group_id=f"{name}-simple", topics=commit_topics(c, commit_part()))

        def delete(note, *groups, v=v):
            c.call(note, "DeleteGroups", v, groups_names=list(groups))
        delete("not empty", name)
        delete("unknown", "nobody")
        delete("empty name", "")
        c.ask("LeaveGroup", 1, group_id=name, member_id=member)
        delete("several", name, "nobody", f"{name}-simple")
        delete("again", name)
        delete("none")
        described(c, "deleted", name)
        c.call("its offsets", "OffsetFetch", 5, group_id=f"{name}-simple", topics=None)


CASES = [join_group, two_members, sync_group, heartbeat, leave_group, static_members, offset_commit, offset_fetch, offset_delete, describe_groups,
         list_groups, delete_groups]
