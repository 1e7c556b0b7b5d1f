"""The group APIs by hand, in every version: what wire.py is for the others."""

import wire
from wire import Wire, Writer

OFFSETS = "__consumer_offsets"
OFFSET_COMMIT, OFFSET_FETCH, JOIN, HEARTBEAT, LEAVE, SYNC, DESCRIBE, LIST, DELETE, OFFSET_DELETE = 8, 9, 11, 12, 13, 14, 15, 16, 42, 47
wire.FLEXIBLE_FROM.update({OFFSET_COMMIT: 8, OFFSET_FETCH: 6, JOIN: 6, HEARTBEAT: 4, LEAVE: 4, SYNC: 4, DESCRIBE: 5, LIST: 3, DELETE: 2,
                           OFFSET_DELETE: 99})


class Group(Wire):
    """The group APIs, each in the versions asked for."""

    def begin(self, api, version):
        return Writer(wire.flexible(api, version))

    def send_join(self, group, member="", version=5, session=10000, rebalance=10000, instance=None, kind="consumer", protocols=None):
        w = self.begin(JOIN, version)
        w.string(group).put("i", session)
        if version >= 1:
            w.put("i", rebalance)
        w.string(member)
        if version >= 5:
            w.string(instance)
        w.string(kind)
        w.array(list((protocols or {"range": b"meta"}).items()), lambda p: w.string(p[0]).bytes(p[1]).tags())
        if version >= 8:
            w.string("for a test")
        return self.send(JOIN, version, w.tags().out)

    def receive_join(self, version=5):
        """error, generation, protocol, leader, member, {member: metadata}"""
        r = self.receive(JOIN, version)
        if version >= 2:
            r.i32()
        error, generation = r.i16(), r.i32()
        if version >= 7:
            r.string()
        protocol, leader = r.string(), r.string()
        skip = version >= 9 and r.i8()
        member, members = r.string(), {}

        def one():
            name = r.string()
            if version >= 5:
                r.string()
            members[name] = r.bytes()
            r.tags()
        r.array(one)
        r.tags()
        r.end()
        self.skip_assignment = bool(skip)
        return error, generation, protocol, leader, member, members

    def join(self, group, member="", version=5, **options):
        self.send_join(group, member, version, **options)
        return self.receive_join(version)

    def joined(self, group, version=5, **options):
        """Joins as a client does, with the member id that the broker gives."""
        got = self.join(group, "", version, **options)
        if got[0] == 79:
            got = self.join(group, got[4], version, **options)
        assert got[0] == 0, got
        return got

    def send_sync(self, group, generation, member, assignments=None, version=3, instance=None):
        w = self.begin(SYNC, version)
        w.string(group).put("i", generation).string(member)
        if version >= 3:
            w.string(instance)
        if version >= 5:
            w.string("consumer").string("range")
        w.array(list((assignments or {}).items()), lambda a: w.string(a[0]).bytes(a[1]).tags())
        return self.send(SYNC, version, w.tags().out)

    def receive_sync(self, version=3):
        r = self.receive(SYNC, version)
        if version >= 1:
            r.i32()
        error = r.i16()
        if version >= 5:
            r.string()
            r.string()
        assignment = r.bytes()
        r.tags()
        r.end()
        return error, assignment

    def sync(self, *arguments, version=3, **options):
        self.send_sync(*arguments, version=version, **options)
        return self.receive_sync(version)

    def heartbeat(self, group, generation, member, version=3, instance=None):
        w = self.begin(HEARTBEAT, version)
        w.string(group).put("i", generation).string(member)
        if version >= 3:
            w.string(instance)
        r = self.call(HEARTBEAT, version, w.tags().out)
        if version >= 1:
            r.i32()
        error = r.i16()
        r.tags()
        r.end()
        return error

    def leave(self, group, members, version=3):
        """members: [(member, instance)]; (error, [error of each])"""
        w = self.begin(LEAVE, version)
        w.string(group)
        if version < 3:
            w.string(members[0][0])
        else:
            def one(m):
                w.string(m[0]).string(m[1])
                if version >= 5:
                    w.string("enough")
                w.tags()
            w.array(members, one)
        r = self.call(LEAVE, version, w.tags().out)
        if version >= 1:
            r.i32()
        error, each = r.i16(), []
        if version >= 3:
            each = r.array(lambda: (r.string(), r.string(), r.i16(), r.tags())[2])
        r.tags()
        r.end()
        return error, each

    def commit(self, group, offsets, generation=-1, member="", version=7, metadata="", retention=-1, instance=None, ids=None):
        """offsets: {(topic, partition): offset}; {(topic, partition): error}"""
        w = self.begin(OFFSET_COMMIT, version)
        w.string(group)
        if version >= 1:
            w.put("i", generation).string(member)
        if version >= 7:
            w.string(instance)
        if 2 <= version <= 4:
            w.put("q", retention)

        def partition(p):
            w.put("iq", p[0], p[1])
            if version >= 6:
                w.put("i", -1)
            if version == 1:
                w.put("q", -1)
            w.string(metadata).tags()
        topics = {}
        for (t, p), o in offsets.items():
            topics.setdefault(t, []).append((p, o))
        w.array(list(topics.items()), lambda t: (w.raw(ids[t[0]]) if version >= 10 else w.string(t[0])).array(t[1], partition).tags())
        r = self.call(OFFSET_COMMIT, version, w.tags().out)
        if version >= 3:
            r.i32()
        got = {}

        def topic():
            name = r.take(16) if version >= 10 else r.string()
            if version >= 10:
                name = [k for k, v in ids.items() if v == name][0]

            def one():
                index = r.i32()
                got[(name, index)] = r.i16()
                r.tags()
            r.array(one)
            r.tags()
        r.array(topic)
        r.tags()
        r.end()
        return got

    def fetch_offsets(self, group, wanted=None, version=5, ids=None):
        """wanted: {topic: [partition]}, None: all. (error, {(topic, partition): (offset, metadata, error)})"""
        w = self.begin(OFFSET_FETCH, version)

        def topic(t):
            (w.raw(ids[t[0]]) if version >= 10 else w.string(t[0])).array(t[1], lambda p: w.put("i", p)).tags()

        def topics():
            if wanted is None:
                w.size("i", -1)
            else:
                w.array(list(wanted.items()), topic)
        if version < 8:
            w.string(group)
            topics()
        else:
            def one(_):
                w.string(group)
                if version >= 9:
                    w.string(None).put("i", -1)
                topics()
                w.tags()
            w.array([0], one)
        if version >= 7:
            w.put("b", 0)
        r = self.call(OFFSET_FETCH, version, w.tags().out)
        if version >= 3:
            r.i32()
        got, error = {}, 0

        def one_topic():
            name = r.take(16) if version >= 10 else r.string()
            if version >= 10:
                name = [k for k, v in ids.items() if v == name][0]

            def one():
                index, offset = r.i32(), r.i64()
                if version >= 5:
                    r.i32()
                got[(name, index)] = (offset, r.string(), r.i16())
                r.tags()
            r.array(one)
            r.tags()
        if version < 8:
            r.array(one_topic)
            if version >= 2:
                error = r.i16()
        else:
            def one_group():
                nonlocal error
                assert r.string() == group
                r.array(one_topic)
                error = r.i16()
                r.tags()
            r.array(one_group)
        r.tags()
        r.end()
        return error, got

    def describe(self, group, version=4):
        """error, state, protocol, [(member, client id, host, metadata, assignment)]"""
        w = self.begin(DESCRIBE, version)
        w.array([group], w.string)
        if version >= 3:
            w.put("b", 1)
        r = self.call(DESCRIBE, version, w.tags().out)
        if version >= 1:
            r.i32()
        found = []

        def member():
            name = r.string()
            if version >= 4:
                r.string()
            m = (name, r.string(), r.string(), r.bytes(), r.bytes())
            r.tags()
            return m

        def one():
            error = r.i16()
            if version >= 6:
                r.string()
            assert r.string() == group
            state, _, protocol = r.string(), r.string(), r.string()
            members = r.array(member)
            if version >= 3:
                r.i32()
            r.tags()
            found.append((error, state, protocol, members))
        r.array(one)
        r.tags()
        r.end()
        return found[0]

    def list(self, version=2, states=(), types=()):
        """(error, {group: (protocol type, state)})"""
        w = self.begin(LIST, version)
        if version >= 4:
            w.array(list(states), w.string)
        if version >= 5:
            w.array(list(types), w.string)
        r = self.call(LIST, version, w.tags().out)
        if version >= 1:
            r.i32()
        error, got = r.i16(), {}

        def one():
            name, kind = r.string(), r.string()
            state = r.string() if version >= 4 else None
            if version >= 5:
                assert r.string() == "classic"
            got[name] = (kind, state)
            r.tags()
        r.array(one)
        r.tags()
        r.end()
        return error, got

    def delete(self, groups, version=1):
        w = self.begin(DELETE, version)
        r = self.call(DELETE, version, w.array(groups, w.string).tags().out)
        r.i32()
        got = dict(r.array(lambda: (r.string(), r.i16(), r.tags())[:2]))
        r.tags()
        r.end()
        return got

    def delete_offsets(self, group, wanted):
        w = Writer()
        w.string(group).array(list(wanted.items()), lambda t: w.string(t[0]).array(t[1], lambda p: w.put("i", p)))
        r = self.call(OFFSET_DELETE, 0, w.out)
        error, got = r.i16(), {}
        r.i32()

        def topic():
            name = r.string()
            got.update({(name, p): e for p, e in r.array(lambda: (r.i32(), r.i16()))})
        r.array(topic)
        r.end()
        return error, got

    def find(self, group, version=0):
        w = self.begin(wire.FIND_COORDINATOR, version)
        if version >= 4:
            w.put("b", 0).array([group], w.string)
        else:
            w.string(group)
            if version >= 1:
                w.put("b", 0)
        r = self.call(wire.FIND_COORDINATOR, version, w.tags().out)
        if version >= 1:
            r.i32()
        if version >= 4:
            return r.array(lambda: (r.string(), r.i32(), r.string(), r.i32(), r.i16(), r.string(), r.tags())[1:5])[0]
        error = r.i16()
        if version >= 1:
            r.string()
        return r.i32(), r.string(), r.i32(), error

    def end_of_offsets(self, partitions=4):
        """How much has been written to __consumer_offsets."""
        return sum(max(0, self.list_offsets(OFFSETS, p, -1)[2]) for p in range(partitions))
