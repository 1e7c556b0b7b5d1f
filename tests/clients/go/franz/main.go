// The checks of franz-go: see family.py.
package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	. "oxbow/clients/common"
)

var codecs = map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
	"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}

func within(seconds int) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), time.Duration(seconds)*time.Second)
}

func open(options ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(Address), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(5 * time.Millisecond),
		kgo.FetchMaxWait(100 * time.Millisecond), kgo.ProducerBatchMaxBytes(16 << 10), kgo.MetadataMinAge(100 * time.Millisecond)}, options...)...)
}

func record(topic string, partition, n int) *kgo.Record {
	r := RecordOf(partition, n)
	k := &kgo.Record{Topic: topic, Partition: int32(partition), Key: r.Key, Value: r.Value, Timestamp: time.UnixMilli(r.Timestamp)}
	for _, h := range r.Headers {
		k.Headers = append(k.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
	}
	return k
}

func check(k *kgo.Record, n int) error {
	r := Record{Key: k.Key, Value: k.Value, Timestamp: k.Timestamp.UnixMilli()}
	for _, h := range k.Headers {
		r.Headers = append(r.Headers, Header{Key: h.Key, Value: h.Value})
	}
	return First(Same("offset", n, k.Offset), Compare(int(k.Partition), n, r, true, true, true))
}

func write(topic string, partitions, from, to int, offsets bool, options ...kgo.Opt) error {
	c, err := open(options...)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := within(40)
	defer cancel()
	var lock sync.Mutex
	for n := from; n < to; n++ {
		for p := 0; p < partitions; p++ {
			n := n
			c.Produce(ctx, record(topic, p, n), func(k *kgo.Record, failed error) {
				if offsets && failed == nil {
					failed = Same("offset", n, k.Offset)
				}
				lock.Lock()
				defer lock.Unlock()
				err = First(err, failed)
			})
		}
	}
	return First(c.Flush(ctx), err)
}

func readAll(topic string, partitions, count int) error {
	at := map[int32]kgo.Offset{}
	for p := 0; p < partitions; p++ {
		at[int32(p)] = kgo.NewOffset().AtStart()
	}
	c, err := open(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: at}))
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := within(40)
	defer cancel()
	next := make([]int, partitions)
	for done := 0; done < partitions*count; {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("%s: only %v came: %w", topic, next, err)
		}
		fetches.EachRecord(func(k *kgo.Record) {
			err = First(err, check(k, next[k.Partition]))
			next[k.Partition]++
			done++
		})
		if err != nil {
			return fmt.Errorf("%s: %w", topic, err)
		}
	}
	a := kadm.NewClient(c)
	starts, err1 := a.ListStartOffsets(ctx, topic)
	ends, err2 := a.ListEndOffsets(ctx, topic)
	if err := First(err1, err2); err != nil {
		return err
	}
	for p := 0; p < partitions; p++ {
		if err := Same("offsets", []int64{0, int64(count)}, []int64{starts[topic][int32(p)].Offset, ends[topic][int32(p)].Offset}); err != nil {
			return err
		}
	}
	return nil
}

func data(codec string) error {
	topic := Family + "-data-" + codec
	return First(write(topic, DataPartitions, 0, DataRecords, true, kgo.ProducerBatchCompression(codecs[codec])), readAll(topic, DataPartitions, DataRecords))
}

func acks() error {
	for k, level := range []kgo.Acks{kgo.NoAck(), kgo.LeaderAck(), kgo.AllISRAcks()} {
		options := []kgo.Opt{kgo.RequiredAcks(level), kgo.DisableIdempotentWrite()}
		if err := write(Family+"-acks", 1, 10*k, 10*k+10, false, options...); err != nil {
			return err
		}
		time.Sleep(200 * time.Millisecond) // nobody tells when acks=0 is in; the next producer must come later
	}
	return readAll(Family+"-acks", 1, 30)
}

func idempotent() error { // what franz-go does anyway: many requests in flight, each with its sequence
	return First(write(Family+"-idempotent", 1, 0, 200, true, kgo.ProducerBatchMaxBytes(1<<10)),
		readAll(Family+"-idempotent", 1, 200))
}

func startMember(s *Sharing, member string) func() {
	ctx, cancel := context.WithCancel(context.Background())
	done, topic := make(chan struct{}), Family+"-share"
	go func() {
		defer close(done)
		var lock sync.Mutex
		mine := map[int32]bool{}
		tell := func(gained, lost []int32) {
			lock.Lock()
			defer lock.Unlock()
			for _, p := range lost {
				delete(mine, p)
			}
			for _, p := range gained {
				mine[p] = true
			}
			all := []int32{}
			for p := range mine {
				all = append(all, p)
			}
			s.Assign(member, all)
		}
		// The default balancer is cooperative: partitions that stay are never given up.
		c, err := open(kgo.ClientID(member), kgo.ConsumerGroup(Family+"-share"), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(10*time.Second), kgo.HeartbeatInterval(500*time.Millisecond),
			kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, m map[string][]int32) { tell(m[topic], nil) }),
			kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, m map[string][]int32) { tell(nil, m[topic]) }),
			kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, m map[string][]int32) { tell(nil, m[topic]) }))
		if err != nil {
			s.Fail(err)
			return
		}
		for ctx.Err() == nil {
			fetches := c.PollRecords(ctx, 20)
			if err := fetches.Err(); err != nil && ctx.Err() == nil {
				s.Fail(err)
			}
			records := fetches.Records()
			if len(records) > 0 {
				if err := c.CommitRecords(context.Background(), records...); err != nil {
					fmt.Printf("   %s could not commit: %s\n", member, err)
				} else {
					for _, k := range records {
						if err := check(k, int(k.Offset)); err != nil {
							s.Fail(err)
						}
						s.Done(int(k.Partition), int(k.Offset))
					}
				}
			}
			c.AllowRebalance()
		}
		c.CloseAllowingRebalance()
		s.Gone(member)
	}()
	return func() { cancel(); <-done }
}

func groupShare() error {
	return Shared(startMember, func(partition, n int) error {
		c, err := open()
		if err != nil {
			return err
		}
		defer c.Close()
		ctx, cancel := within(20)
		defer cancel()
		k, err := c.ProduceSync(ctx, record(Family+"-share", partition, n)).First()
		return First(err, Same("offset", n, k.Offset))
	})
}

func groupResume() error {
	name := Family + "-resume"
	ctx, cancel := within(100)
	defer cancel()
	next := []int{0, 0}
	read := func(until int) (*kgo.Client, error) {
		c, err := open(kgo.ConsumerGroup(name), kgo.ConsumeTopics(name), kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
			kgo.HeartbeatInterval(500*time.Millisecond))
		for err == nil && (next[0] < until || next[1] < until) {
			fetches := c.PollRecords(ctx, 7)
			err = fetches.Err()
			fetches.EachRecord(func(k *kgo.Record) {
				err = First(err, check(k, next[k.Partition]))
				next[k.Partition]++
			})
		}
		if err != nil {
			err = fmt.Errorf("at %v: %w", next, err)
		}
		return c, err
	}
	c, err := read(ResumeAt)
	if err != nil {
		return err
	}
	a, offsets := kadm.NewClient(c), kadm.Offsets{}
	for p := int32(0); p < ResumePartitions; p++ {
		offsets.Add(kadm.Offset{Topic: name, Partition: p, At: int64(ResumeAt + p), LeaderEpoch: -1, Metadata: fmt.Sprintf("note %d", p)})
	}
	c.Close() // commits from outside are for groups without members
	c, err = open()
	if err != nil {
		return err
	}
	a = kadm.NewClient(c)
	if err := a.CommitAllOffsets(ctx, name, offsets); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	found, err := a.FetchOffsets(ctx, name)
	c.Close()
	if err != nil {
		return err
	}
	for p := int32(0); p < ResumePartitions; p++ {
		o, _ := found.Lookup(name, p)
		if err := First(o.Err, Same("committed", fmt.Sprintf("%d note %d", ResumeAt+p, p), fmt.Sprintf("%d %s", o.At, o.Metadata))); err != nil {
			return err
		}
	}
	next = []int{ResumeAt, ResumeAt + 1}
	c, err = read(ResumeRecords)
	if c != nil {
		c.Close()
	}
	return err
}

func groupAdmin() error {
	ctx, cancel := within(80)
	defer cancel()
	group := Family + "-admin"
	plain, err := open()
	if err != nil {
		return err
	}
	defer plain.Close()
	a := kadm.NewClient(plain)
	c, err := open(kgo.ClientID("the-member"), kgo.ConsumerGroup(group), kgo.ConsumeTopics(group), kgo.InstanceID("instance-1"))
	if err != nil {
		return err
	}
	go func() {
		for ctx.Err() == nil && !c.PollFetches(ctx).IsClientClosed() {
		}
	}()
	describe := func() (kadm.DescribedGroup, error) {
		d, err := a.DescribeGroups(ctx, group)
		return d[group], err
	}
	err = Eventually("the group is stable", 60, func() (bool, error) { d, _ := describe(); return d.State == "Stable", nil })
	if err != nil {
		return err
	}
	d, err := describe()
	if err := First(err, d.Err, Same("members", 1, len(d.Members))); err != nil {
		return err
	}
	m := d.Members[0]
	if err := First(Same("client id", "the-member", m.ClientID), Same("instance", "instance-1", *m.InstanceID)); err != nil {
		return err
	}
	listed, err := a.ListGroups(ctx)
	if err := First(err, Same("its kind and state in the list", "consumer Stable", listed[group].ProtocolType+" "+listed[group].State)); err != nil {
		return err
	}
	remove := func() error {
		d, err := a.DeleteGroups(ctx, group)
		var each *kadm.ShardErrors // what older releases make of it
		if errors.As(err, &each) {
			return each.Errs[0].Err
		}
		return First(err, d[group].Err)
	}
	if err := remove(); !errors.Is(err, kerr.NonEmptyGroup) {
		return fmt.Errorf("deleting a group with members: %v", err)
	}
	c.Close() // a static member does not leave; the administrator makes it
	left, err := a.LeaveGroup(ctx, kadm.LeaveGroup(group).InstanceIDs("instance-1"))
	if err := First(err, left["instance-1"].Err); err != nil {
		return fmt.Errorf("removing a member: %w", err)
	}
	err = Eventually("the group is empty", 20, func() (bool, error) { d, err := describe(); return d.State == "Empty", err })
	if err != nil {
		return err
	}
	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{Topic: group, Partition: 0, At: 0, LeaderEpoch: -1})
	if err := a.CommitAllOffsets(ctx, group, offsets); err != nil {
		return err
	}
	set := kadm.TopicsSet{}
	set.Add(group, 0)
	gone, err := a.DeleteOffsets(ctx, group, set)
	if err := First(err, gone[group][0]); err != nil {
		return fmt.Errorf("deleting offsets: %w", err)
	}
	if found, err := a.FetchOffsets(ctx, group); err != nil || len(found[group]) != 0 {
		return fmt.Errorf("offsets that were deleted: %v %v", found, err)
	}
	// Kafka up to 3.9 forgets an empty group with its last offset, so there must be one for a group to be deleted.
	if err := First(a.CommitAllOffsets(ctx, group, offsets), remove()); err != nil {
		return err
	}
	if err := remove(); !errors.Is(err, kerr.GroupIDNotFound) {
		return fmt.Errorf("deleting a group that is gone: %v", err)
	}
	return nil
}

func topics() error {
	ctx, cancel := within(60)
	defer cancel()
	c, err := open()
	if err != nil {
		return err
	}
	defer c.Close()
	a, name, value := kadm.NewClient(c), Family+"-made", "123456"
	if _, err := a.CreateTopic(ctx, 2, 1, map[string]*string{"retention.ms": &value}, name); err != nil {
		return err
	}
	if _, err := a.CreateTopic(ctx, 2, 1, nil, name); !errors.Is(err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("creating it again: %v", err)
	}
	configs := func() (map[string]string, error) {
		found := map[string]string{}
		d, err := a.DescribeTopicConfigs(ctx, name)
		if err != nil {
			return nil, err
		}
		for _, e := range d[0].Configs {
			found[e.Key] = e.MaybeValue()
		}
		return found, d[0].Err
	}
	more, err := a.UpdatePartitions(ctx, 4, name)
	if err := First(err, more[name].Err); err != nil {
		return fmt.Errorf("more partitions: %w", err)
	}
	err = Eventually("four partitions", 20, func() (bool, error) {
		t, err := a.ListTopics(ctx, name)
		return err == nil && len(t[name].Partitions) == 4, nil
	})
	if err != nil {
		return err
	}
	size := "54321"
	altered, err := a.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "max.message.bytes", Value: &size}}, name)
	if err := First(err, altered[0].Err); err != nil {
		return fmt.Errorf("alter incrementally: %w", err)
	}
	// Kafka's brokers learn of a change a moment after it was answered.
	holds := func(what string, check func(map[string]string) bool) error {
		return Eventually(what, 10, func() (bool, error) { found, err := configs(); return err == nil && check(found), err })
	}
	if err := holds("both are set", func(c map[string]string) bool { return c["retention.ms"] == value && c["max.message.bytes"] == size }); err != nil {
		return err
	}
	altered, err = a.AlterTopicConfigsState(ctx, []kadm.AlterConfig{{Name: "max.message.bytes", Value: &size}}, name)
	if err := First(err, altered[0].Err); err != nil {
		return fmt.Errorf("alter: %w", err)
	}
	if err := holds("AlterConfigs drops what it does not name", func(c map[string]string) bool {
		return c["retention.ms"] != value && c["max.message.bytes"] == size
	}); err != nil {
		return err
	}
	if err := write(name, 1, 0, 30, true); err != nil {
		return err
	}
	upTo := kadm.Offsets{}
	upTo.Add(kadm.Offset{Topic: name, Partition: 0, At: 10, LeaderEpoch: -1})
	cut, err := a.DeleteRecords(ctx, upTo)
	if err := First(err, cut[name][0].Err); err != nil {
		return fmt.Errorf("delete records: %w", err)
	}
	starts, err := a.ListStartOffsets(ctx, name)
	if err := First(err, Same("start after records were deleted", 10, starts[name][0].Offset)); err != nil {
		return err
	}
	removed, err := a.DeleteTopics(ctx, name)
	if err := First(err, removed[name].Err); err != nil {
		return err
	}
	removed, err = a.DeleteTopics(ctx, name)
	if err == nil {
		err = removed[name].Err
	}
	if !errors.Is(err, kerr.UnknownTopicOrPartition) {
		return fmt.Errorf("deleting it again: %v", err)
	}
	return nil
}

func times() error {
	ctx, cancel := within(40)
	defer cancel()
	topic := Family + "-times"
	for _, at := range []int{70, 0, TimesRecords - 1} {
		c, err := open(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(int64(at))}}))
		if err != nil {
			return err
		}
		fetches := c.PollRecords(ctx, 1)
		c.Close()
		if err := fetches.Err(); err != nil {
			return err
		}
		if err := check(fetches.Records()[0], at); err != nil {
			return err
		}
	}
	c, err := open(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(TimesRecords + 1000)}}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()))
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.PollFetches(ctx).Err(); !errors.Is(err, kerr.OffsetOutOfRange) {
		return fmt.Errorf("an offset behind the end: %v", err)
	}
	a := kadm.NewClient(c)
	// For a time after the last record kadm gives the end.
	for _, x := range [][2]int64{{Base, 0}, {Base + 500, 50}, {Base + 501, 51}, {1, 0}, {Base + 10*TimesRecords, TimesRecords}} {
		found, err := a.ListOffsetsAfterMilli(ctx, x[0], topic)
		if err := First(err, Same(fmt.Sprintf("offset for %d", x[0]-Base), x[1], found[topic][0].Offset)); err != nil {
			return err
		}
	}
	return nil
}

func unknownTopic() error {
	err := write(Family+"-nowhere", 1, 0, 1, false, kgo.UnknownTopicRetries(1))
	if !errors.Is(err, kerr.UnknownTopicOrPartition) {
		return fmt.Errorf("writing to a topic that is not there: %v", err)
	}
	c, err := open()
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := within(20)
	defer cancel()
	t, err := kadm.NewClient(c).ListTopics(ctx, Family+"-nowhere")
	if err := First(err, Same("a topic that is not there", kerr.UnknownTopicOrPartition, t[Family+"-nowhere"].Err)); err != nil {
		return err
	}
	return nil
}

func main() {
	checks := []Check{{"group-share", groupShare}, {"group-resume", groupResume}, {"group-admin", groupAdmin}, {"topics", topics}, {"times", times},
		{"unknown-topic", unknownTopic}, {"acks", acks}, {"idempotent", idempotent}}
	for _, codec := range Codecs {
		codec := codec
		checks = append(checks, Check{"data-" + codec, func() error { return data(codec) }},
			Check{"peer-" + codec, func() error { return readAll(Family+"-peer-"+codec, PeerPartitions, PeerRecords) }})
	}
	Run(checks)
}
