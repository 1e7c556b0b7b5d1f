// The checks of kafka-go: see family.py.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go"

	. "oxbow/clients/common"
)

var codecs = map[string]kafka.Compression{"gzip": kafka.Gzip, "snappy": kafka.Snappy, "lz4": kafka.Lz4, "zstd": kafka.Zstd}

func within(seconds int) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), time.Duration(seconds)*time.Second)
}

func client() *kafka.Client {
	host, port, _ := net.SplitHostPort(Address)
	n, _ := strconv.Atoi(port)
	return &kafka.Client{Addr: &net.TCPAddr{IP: net.ParseIP(host), Port: n}, Timeout: 20 * time.Second}
}

func message(topic string, partition, n int) kafka.Message {
	r := RecordOf(partition, n)
	m := kafka.Message{Topic: topic, Key: r.Key, Value: r.Value, Time: time.UnixMilli(r.Timestamp), WriterData: partition}
	for _, h := range r.Headers {
		m.Headers = append(m.Headers, kafka.Header{Key: h.Key, Value: h.Value})
	}
	return m
}

// check compares one message with what it must be. kafka-go's reader has no difference between null and empty.
func check(m kafka.Message, n int) error {
	r := Record{Key: m.Key, Value: m.Value, Timestamp: m.Time.UnixMilli()}
	for _, h := range m.Headers {
		r.Headers = append(r.Headers, Header{Key: h.Key, Value: h.Value})
	}
	return First(Same("offset", n, m.Offset), Compare(m.Partition, n, r, false, true, true))
}

func writer(topic string, compression kafka.Compression, acks kafka.RequiredAcks) *kafka.Writer {
	return &kafka.Writer{Addr: kafka.TCP(Address), Topic: topic, RequiredAcks: acks, Compression: compression, BatchSize: 20, MaxAttempts: 3,
		BatchTimeout: 10 * time.Millisecond,
		Balancer:     kafka.BalancerFunc(func(m kafka.Message, partitions ...int) int { return m.WriterData.(int) })}
}

func write(w *kafka.Writer, partitions, from, to int) error {
	ctx, cancel := within(40)
	defer cancel()
	messages := []kafka.Message{}
	for n := from; n < to; n++ {
		for p := 0; p < partitions; p++ {
			m := message("", p, n)
			messages = append(messages, m)
		}
	}
	return First(w.WriteMessages(ctx, messages...), w.Close())
}

func reader(topic string, partition int, at int64) (*kafka.Reader, error) {
	r := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{Address}, Topic: topic, Partition: partition, MaxWait: 100 * time.Millisecond,
		MinBytes: 1, MaxBytes: 1 << 20})
	return r, r.SetOffset(at)
}

func readAll(topic string, partitions, count int) error {
	ctx, cancel := within(40)
	defer cancel()
	for p := 0; p < partitions; p++ {
		r, err := reader(topic, p, kafka.FirstOffset)
		if err != nil {
			return err
		}
		defer r.Close()
		for n := 0; n < count; n++ {
			m, err := r.ReadMessage(ctx)
			if err != nil {
				return fmt.Errorf("%s: after %d records: %w", topic, n, err)
			}
			if err := check(m, n); err != nil {
				return fmt.Errorf("%s: %w", topic, err)
			}
		}
		short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		m, err := r.ReadMessage(short)
		cancel()
		if err == nil {
			return fmt.Errorf("%s: a record behind the last one, at %d", topic, m.Offset)
		}
	}
	found, err := client().ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{
		topic: {kafka.FirstOffsetOf(0), kafka.LastOffsetOf(0)}}})
	if err != nil {
		return err
	}
	o := found.Topics[topic][0]
	return First(o.Error, Same("offsets", []int64{0, int64(count)}, []int64{o.FirstOffset, o.LastOffset}))
}

func data(codec string) error {
	topic := Family + "-data-" + codec
	return First(write(writer(topic, codecs[codec], kafka.RequireAll), DataPartitions, 0, DataRecords), readAll(topic, DataPartitions, DataRecords))
}

func acks() error {
	for k, level := range []kafka.RequiredAcks{kafka.RequireNone, kafka.RequireOne, kafka.RequireAll} {
		if err := write(writer(Family+"-acks", 0, level), 1, 10*k, 10*k+10); err != nil {
			return err
		}
		time.Sleep(200 * time.Millisecond) // nobody tells when acks=0 is in; the next producer must come later
	}
	return readAll(Family+"-acks", 1, 30)
}

// generations joins a group by kafka-go's lower interface, which tells which partitions a member has.
func generations(ctx context.Context, group, topic, member string, run func(ctx context.Context, g *kafka.Generation, partition int, from int64),
	assigned func([]int32)) (stop func() error, err error) {
	g, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{ID: group, Brokers: []string{Address}, Topics: []string{topic},
		HeartbeatInterval: 500 * time.Millisecond, StartOffset: kafka.FirstOffset, RebalanceTimeout: 20 * time.Second,
		SessionTimeout: 10 * time.Second, JoinGroupBackoff: 200 * time.Millisecond, Dialer: &kafka.Dialer{ClientID: member, Timeout: 10 * time.Second}})
	if err != nil {
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			gen, err := g.Next(ctx)
			if errors.Is(err, kafka.ErrGroupClosed) || ctx.Err() != nil {
				return
			}
			if err != nil {
				fmt.Printf("   %s: %s\n", member, err)
				continue
			}
			ids := []int32{}
			for _, a := range gen.Assignments[topic] {
				a := a
				ids = append(ids, int32(a.ID))
				gen.Start(func(ctx context.Context) { run(ctx, gen, a.ID, a.Offset) })
			}
			assigned(ids)
		}
	}()
	return func() error { err := g.Close(); <-done; return err }, nil
}

func startMember(s *Sharing, member string) func() {
	ctx, cancel := context.WithCancel(context.Background())
	topic := Family + "-share"
	run := func(ctx context.Context, g *kafka.Generation, partition int, from int64) {
		r, err := reader(topic, partition, from)
		if err != nil {
			s.Fail(err)
			return
		}
		defer r.Close()
		for {
			m, err := r.ReadMessage(ctx)
			if ctx.Err() != nil {
				return
			}
			if err == nil {
				err = check(m, int(m.Offset))
			}
			if err != nil {
				s.Fail(err)
				return
			}
			if err := g.CommitOffsets(map[string]map[int]int64{topic: {partition: m.Offset + 1}}); err != nil {
				fmt.Printf("   %s could not commit: %s\n", member, err)
				return // a rebalance: whoever has the partition next reads it again
			}
			s.Done(partition, int(m.Offset))
		}
	}
	stop, err := generations(ctx, Family+"-share", topic, member, run, func(ids []int32) { s.Assign(member, ids) })
	if err != nil {
		s.Fail(err)
	}
	return func() {
		if err := stop(); err != nil {
			s.Fail(err)
		}
		cancel()
		s.Gone(member)
	}
}

func groupShare() error {
	return Shared(startMember, func(partition, n int) error {
		ctx, cancel := within(20)
		defer cancel()
		w := writer(Family+"-share", 0, kafka.RequireAll)
		defer w.Close()
		return w.WriteMessages(ctx, message("", partition, n))
	})
}

// groupResume uses the reader as people do: FetchMessage and CommitMessages of a group.
func groupResume() error {
	name := Family + "-resume"
	ctx, cancel := within(100)
	defer cancel()
	open := func() *kafka.Reader {
		return kafka.NewReader(kafka.ReaderConfig{Brokers: []string{Address}, GroupID: name, Topic: name, MaxWait: 100 * time.Millisecond,
			MinBytes: 1, MaxBytes: 1 << 20, StartOffset: kafka.FirstOffset, HeartbeatInterval: 500 * time.Millisecond, SessionTimeout: 10 * time.Second})
	}
	next := []int{0, 0}
	read := func(r *kafka.Reader, until int) error {
		for next[0] < until || next[1] < until {
			m, err := r.FetchMessage(ctx)
			if err := First(err, check(m, next[m.Partition])); err != nil {
				return fmt.Errorf("at %v: %w", next, err)
			}
			next[m.Partition]++
		}
		return nil
	}
	r := open()
	if err := read(r, ResumeAt); err != nil {
		return err
	}
	commit := func(p int) error {
		return r.CommitMessages(ctx, kafka.Message{Topic: name, Partition: p, Offset: int64(ResumeAt + p - 1)})
	}
	if err := First(commit(0), commit(1), r.Close()); err != nil {
		return err
	}
	next = []int{ResumeAt, ResumeAt + 1}
	r = open()
	defer r.Close()
	if err := read(r, ResumeRecords); err != nil {
		return err
	}
	found, err := client().OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: name, Topics: map[string][]int{name: {0, 1}}})
	if err != nil {
		return err
	}
	got := map[int]int64{}
	for _, p := range found.Topics[name] {
		got[p.Partition] = p.CommittedOffset
	}
	return Same("committed", map[int]int64{0: ResumeAt, 1: ResumeAt + 1}, got)
}

func groupAdmin() error {
	ctx, cancel := within(80)
	defer cancel()
	c, group := client(), Family+"-admin"
	stop, err := generations(ctx, group, group, "the-member", func(ctx context.Context, g *kafka.Generation, p int, from int64) {
		if err := g.CommitOffsets(map[string]map[int]int64{group: {p: 0}}); err != nil {
			fmt.Printf("   commit: %s\n", err)
		}
		<-ctx.Done()
	}, func([]int32) {})
	if err != nil {
		return err
	}
	describe := func() (string, int, error) {
		d, err := c.DescribeGroups(ctx, &kafka.DescribeGroupsRequest{GroupIDs: []string{group}})
		if err != nil {
			return "", 0, err
		}
		if d.Groups[0].Error != nil {
			return d.Groups[0].Error.Error(), 0, nil
		}
		return d.Groups[0].GroupState, len(d.Groups[0].Members), nil
	}
	err = Eventually("the group is stable", 60, func() (bool, error) {
		state, members, err := describe()
		return state == "Stable" && members == 1, err
	})
	if err != nil {
		return err
	}
	listed := func() (bool, error) {
		l, err := c.ListGroups(ctx, &kafka.ListGroupsRequest{})
		if err != nil {
			return false, err
		}
		for _, g := range l.Groups {
			if g.GroupID == group {
				return true, l.Error
			}
		}
		return false, l.Error
	}
	there, err := listed()
	if err := First(err, Same("listed", true, there)); err != nil {
		return err
	}
	remove := func() error {
		d, err := c.DeleteGroups(ctx, &kafka.DeleteGroupsRequest{GroupIDs: []string{group}})
		if err != nil {
			return err
		}
		return d.Errors[group]
	}
	if err := remove(); !errors.Is(err, kafka.NonEmptyGroup) {
		return fmt.Errorf("deleting a group with members: %v", err)
	}
	if err := stop(); err != nil {
		return err
	}
	err = Eventually("the group is empty", 20, func() (bool, error) {
		state, members, err := describe()
		return state == "Empty" && members == 0, err
	})
	if err := First(err, remove()); err != nil {
		return err
	}
	there, err = listed()
	if err := First(err, Same("listed", false, there)); err != nil {
		return err
	}
	if err := remove(); !errors.Is(err, kafka.GroupIdNotFound) {
		return fmt.Errorf("deleting a group that is gone: %v", err)
	}
	return nil
}

func topics() error {
	ctx, cancel := within(60)
	defer cancel()
	c, name := client(), Family+"-made"
	create := func() error {
		made, err := c.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{Topic: name, NumPartitions: 2, ReplicationFactor: 1,
			ConfigEntries: []kafka.ConfigEntry{{ConfigName: "retention.ms", ConfigValue: "123456"}}}}})
		if err != nil {
			return err
		}
		return made.Errors[name]
	}
	if err := create(); err != nil {
		return err
	}
	if err := create(); !errors.Is(err, kafka.TopicAlreadyExists) {
		return fmt.Errorf("creating it again: %v", err)
	}
	configs := func() (map[string]string, error) {
		found := map[string]string{}
		d, err := c.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{Resources: []kafka.DescribeConfigRequestResource{
			{ResourceType: kafka.ResourceTypeTopic, ResourceName: name}}})
		if err != nil {
			return nil, err
		}
		for _, e := range d.Resources[0].ConfigEntries {
			found[e.ConfigName] = e.ConfigValue
		}
		return found, d.Resources[0].Error
	}
	// Kafka's brokers learn of a change a moment after it was answered.
	holds := func(what, retention, size string) error {
		return Eventually(what, 10, func() (bool, error) {
			c, err := configs()
			return err == nil && (c["retention.ms"] == "123456") == (retention == "123456") && (size == "" || c["max.message.bytes"] == size), nil
		})
	}
	if err := holds("retention.ms is set", "123456", ""); err != nil {
		return err
	}
	more, err := c.CreatePartitions(ctx, &kafka.CreatePartitionsRequest{Topics: []kafka.TopicPartitionsConfig{{Name: name, Count: 4}}})
	if err == nil {
		err = more.Errors[name]
	}
	if err != nil {
		return fmt.Errorf("more partitions: %w", err)
	}
	partitions := func() (int, error) {
		m, err := c.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{name}})
		if err != nil {
			return 0, err
		}
		return len(m.Topics[0].Partitions), m.Topics[0].Error
	}
	err = Eventually("four partitions", 20, func() (bool, error) { n, _ := partitions(); return n == 4, nil })
	if err != nil {
		return err
	}
	altered, err := c.IncrementalAlterConfigs(ctx, &kafka.IncrementalAlterConfigsRequest{Resources: []kafka.IncrementalAlterConfigsRequestResource{
		{ResourceType: kafka.ResourceTypeTopic, ResourceName: name, Configs: []kafka.IncrementalAlterConfigsRequestConfig{
			{Name: "max.message.bytes", Value: "54321", ConfigOperation: kafka.ConfigOperationSet}}}}})
	if err == nil {
		err = altered.Resources[0].Error
	}
	if err != nil {
		return fmt.Errorf("alter incrementally: %w", err)
	}
	if err := holds("both are set", "123456", "54321"); err != nil {
		return err
	}
	old, err := c.AlterConfigs(ctx, &kafka.AlterConfigsRequest{Resources: []kafka.AlterConfigRequestResource{{ResourceType: kafka.ResourceTypeTopic,
		ResourceName: name, Configs: []kafka.AlterConfigRequestConfig{{Name: "max.message.bytes", Value: "55555"}}}}})
	if err != nil {
		return fmt.Errorf("alter: %w", err)
	}
	for _, err := range old.Errors {
		if err != nil {
			return fmt.Errorf("alter: %w", err)
		}
	}
	if err := holds("AlterConfigs drops what it does not name", "", "55555"); err != nil {
		return err
	}
	remove := func() error {
		d, err := c.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: []string{name}})
		if err != nil {
			return err
		}
		return d.Errors[name]
	}
	if err := remove(); err != nil {
		return err
	}
	err = Eventually("it is gone", 20, func() (bool, error) {
		_, err := partitions()
		return errors.Is(err, kafka.UnknownTopicOrPartition), nil
	})
	if err != nil {
		return err
	}
	if err := remove(); !errors.Is(err, kafka.UnknownTopicOrPartition) {
		return fmt.Errorf("deleting it again: %v", err)
	}
	return nil
}

func times() error {
	ctx, cancel := within(40)
	defer cancel()
	topic := Family + "-times"
	for _, at := range []int{70, 0, TimesRecords - 1} {
		r, err := reader(topic, 0, int64(at))
		if err != nil {
			return err
		}
		m, err := r.ReadMessage(ctx)
		r.Close()
		if err := First(err, check(m, at)); err != nil {
			return err
		}
	}
	conn, err := kafka.DialLeader(ctx, "tcp", Address, topic, 0)
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, x := range [][2]int64{{Base, 0}, {Base + 500, 50}, {Base + 501, 51}, {1, 0}, {Base + 10*TimesRecords, -1}} {
		offset, err := conn.ReadOffset(time.UnixMilli(x[0]))
		if err := First(err, Same(fmt.Sprintf("offset for %d", x[0]-Base), x[1], offset)); err != nil {
			return err
		}
	}
	if _, err := conn.Seek(TimesRecords+1000, kafka.SeekAbsolute); !errors.Is(err, kafka.OffsetOutOfRange) {
		return fmt.Errorf("an offset behind the end: %v", err)
	}
	return nil
}

func unknownTopic() error {
	err := write(writer(Family+"-nowhere", 0, kafka.RequireAll), 1, 0, 1)
	if !errors.Is(err, kafka.UnknownTopicOrPartition) {
		return fmt.Errorf("writing to a topic that is not there: %v", err)
	}
	return nil
}

func main() {
	checks := []Check{{"group-share", groupShare}, {"group-resume", groupResume}, {"group-admin", groupAdmin}, {"topics", topics}, {"times", times},
		{"unknown-topic", unknownTopic}, {"acks", acks}}
	for _, codec := range Codecs {
		codec := codec
		checks = append(checks, Check{"data-" + codec, func() error { return data(codec) }},
			Check{"peer-" + codec, func() error { return readAll(Family+"-peer-"+codec, PeerPartitions, PeerRecords) }})
	}
	Run(checks)
}
