// The checks of Sarama: see family.py. SARAMA_VERSION ("0.9.0.1") makes it speak as to a broker of that version.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/IBM/sarama"

	. "oxbow/clients/common"
)

var (
	version       = versionOf(os.Getenv("SARAMA_VERSION"))
	hasTimestamps = version.IsAtLeast(sarama.V0_10_0_0)
	hasHeaders    = version.IsAtLeast(sarama.V0_11_0_0)
	hasZstd       = version.IsAtLeast(sarama.V2_1_0_0)
	hasAdmin      = version.IsAtLeast(sarama.V0_11_0_0)
	hasGroups     = version.IsAtLeast(sarama.V0_10_2_0) // Sarama's own consumer groups want that
)

var codecs = map[string]sarama.CompressionCodec{"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy,
	"lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD}

func versionOf(text string) sarama.KafkaVersion {
	if text == "" {
		return sarama.MaxVersion
	}
	v, err := sarama.ParseKafkaVersion(text)
	if err != nil {
		panic(err)
	}
	return v
}

func config(name string) *sarama.Config {
	c := sarama.NewConfig()
	c.ClientID = name
	c.Version = version
	if os.Getenv("SARAMA_VERSION") != "" {
		c.ApiVersionsRequest = false
	}
	c.Producer.Return.Successes = true
	c.Producer.Partitioner = sarama.NewManualPartitioner
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Flush.Messages = 20
	c.Producer.Flush.Frequency = 10 * time.Millisecond
	c.Consumer.Return.Errors = true
	c.Consumer.MaxWaitTime = 100 * time.Millisecond
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Offsets.AutoCommit.Enable = false
	c.Consumer.Group.Heartbeat.Interval = 500 * time.Millisecond
	return c
}

func message(topic string, partition, n int) *sarama.ProducerMessage {
	r := RecordOf(partition, n)
	m := &sarama.ProducerMessage{Topic: topic, Partition: int32(partition), Metadata: n}
	if r.Key != nil {
		m.Key = sarama.ByteEncoder(r.Key)
	}
	if r.Value != nil {
		m.Value = sarama.ByteEncoder(r.Value)
	}
	if hasTimestamps {
		m.Timestamp = time.UnixMilli(r.Timestamp)
	}
	if hasHeaders {
		for _, h := range r.Headers {
			m.Headers = append(m.Headers, sarama.RecordHeader{Key: []byte(h.Key), Value: h.Value})
		}
	}
	return m
}

// check compares one message with what it must be. Sarama gives empty values of message sets v2 as null ones: so it does not tell.
func check(m *sarama.ConsumerMessage, n int) error {
	r := Record{Key: m.Key, Value: m.Value, Timestamp: m.Timestamp.UnixMilli()}
	for _, h := range m.Headers {
		r.Headers = append(r.Headers, Header{Key: string(h.Key), Value: h.Value})
	}
	return First(Same("offset", n, m.Offset), Compare(int(m.Partition), n, r, false, hasHeaders, hasTimestamps))
}

// write sends records [from, to) of each partition and checks the offsets that come back.
func write(c *sarama.Config, topic string, partitions, from, to int, offsets bool) error {
	p, err := sarama.NewAsyncProducer([]string{Address}, c)
	if err != nil {
		return err
	}
	total := partitions * (to - from)
	go func() {
		for n := from; n < to; n++ {
			for part := 0; part < partitions; part++ {
				p.Input() <- message(topic, part, n)
			}
		}
	}()
	deadline := time.After(40 * time.Second)
	for done := 0; done < total && err == nil; done++ {
		select {
		case m := <-p.Successes():
			if offsets {
				err = Same("offset", m.Metadata, m.Offset)
			}
		case e := <-p.Errors():
			err = e
		case <-deadline:
			err = fmt.Errorf("%s: only %d of %d were acknowledged", topic, done, total)
		}
	}
	p.AsyncClose()
	return err
}

func readAll(topic string, partitions, count int, seconds int) error {
	client, err := sarama.NewClient([]string{Address}, config("reader"))
	if err != nil {
		return err
	}
	defer client.Close()
	c, err := sarama.NewConsumerFromClient(client)
	if err != nil {
		return err
	}
	defer c.Close()
	for part := 0; part < partitions; part++ {
		pc, err := c.ConsumePartition(topic, int32(part), sarama.OffsetOldest)
		if err != nil {
			return err
		}
		defer pc.AsyncClose()
		deadline := time.After(time.Duration(seconds) * time.Second)
		for n := 0; n < count; n++ {
			select {
			case m := <-pc.Messages():
				if err := check(m, n); err != nil {
					return fmt.Errorf("%s: %w", topic, err)
				}
			case e := <-pc.Errors():
				return e
			case <-deadline:
				return fmt.Errorf("%s: only %d of %d came", topic, n, count)
			}
		}
		select {
		case m := <-pc.Messages():
			return fmt.Errorf("%s: a record behind the last one, at %d", topic, m.Offset)
		case <-time.After(150 * time.Millisecond):
		}
		oldest, err1 := client.GetOffset(topic, int32(part), sarama.OffsetOldest)
		newest, err2 := client.GetOffset(topic, int32(part), sarama.OffsetNewest)
		if err := First(err1, err2, Same("oldest", 0, oldest), Same("newest", count, newest)); err != nil {
			return err
		}
	}
	return nil
}

func data(codec string) error {
	if codec == "zstd" && !hasZstd {
		return ErrSkip("no zstd for that broker version")
	}
	c := config("writer")
	c.Producer.Compression = codecs[codec]
	topic := Family + "-data-" + codec
	return First(write(c, topic, DataPartitions, 0, DataRecords, true), readAll(topic, DataPartitions, DataRecords, 40))
}

func peer(codec string) error {
	topic := Family + "-peer-" + codec
	if codec != "zstd" || hasZstd {
		return readAll(topic, PeerPartitions, PeerRecords, 40)
	}
	// Before Fetch 10 there is an error, nothing, or (in Sarama, which knows zstd all the same) the records, but nothing else.
	err := readAll(topic, PeerPartitions, PeerRecords, 4)
	if err != nil {
		fmt.Printf("   peer-zstd ended with %s\n", err)
	}
	return nil
}

func acks() error {
	for k, level := range []sarama.RequiredAcks{sarama.NoResponse, sarama.WaitForLocal, sarama.WaitForAll} {
		c := config("writer")
		c.Producer.RequiredAcks = level
		if err := write(c, Family+"-acks", 1, 10*k, 10*k+10, false); err != nil {
			return err
		}
		time.Sleep(200 * time.Millisecond) // nobody tells when acks=0 is in; the next producer must come later
	}
	return readAll(Family+"-acks", 1, 30, 40)
}

func idempotent() error {
	if !hasHeaders {
		return ErrSkip("idempotence came with 0.11")
	}
	c := config("writer")
	c.Producer.Idempotent = true
	c.Net.MaxOpenRequests = 1
	return First(write(c, Family+"-idempotent", 1, 0, 200, true), readAll(Family+"-idempotent", 1, 200, 40))
}

// handler is one member of a group.
type handler struct {
	sharing *Sharing
	member  string
	stop    func(m *sarama.ConsumerMessage) bool // after this one; nil: never
	commits sync.Mutex
}

func (h *handler) Setup(s sarama.ConsumerGroupSession) error {
	if h.sharing != nil {
		h.sharing.Assign(h.member, s.Claims()[Family+"-share"])
	}
	return nil
}

func (h *handler) Cleanup(s sarama.ConsumerGroupSession) error { return nil }

func (h *handler) ConsumeClaim(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for m := range claim.Messages() {
		if err := check(m, int(m.Offset)); err != nil {
			if h.sharing != nil {
				h.sharing.Fail(err)
			}
			return err
		}
		if h.stop != nil {
			if h.stop(m) {
				return nil
			}
			continue
		}
		if s.Context().Err() != nil {
			return nil
		}
		// One at a time: commits of two partitions at once may overtake each other, and an older offset of the other would win.
		h.commits.Lock()
		s.MarkMessage(m, "")
		s.Commit()
		h.commits.Unlock()
		h.sharing.Done(int(m.Partition), int(m.Offset))
	}
	return nil
}

func startMember(sharing *Sharing, member string) func() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		g, err := sarama.NewConsumerGroup([]string{Address}, Family+"-share", config(member))
		if err != nil {
			sharing.Fail(err)
			return
		}
		go func() {
			for err := range g.Errors() {
				fmt.Printf("   %s: %s\n", member, err)
			}
		}()
		for ctx.Err() == nil {
			if err := g.Consume(ctx, []string{Family + "-share"}, &handler{sharing: sharing, member: member}); err != nil && ctx.Err() == nil {
				sharing.Fail(err)
				break
			}
		}
		if err := g.Close(); err != nil {
			sharing.Fail(err)
		}
		sharing.Gone(member)
	}()
	return func() { cancel(); <-done }
}

func groupShare() error {
	if !hasGroups {
		return ErrSkip("Sarama's groups want 0.10.2")
	}
	return Shared(startMember, func(partition, n int) error {
		p, err := sarama.NewSyncProducer([]string{Address}, config("writer"))
		if err != nil {
			return err
		}
		defer p.Close()
		_, offset, err := p.SendMessage(message(Family+"-share", partition, n))
		return First(err, Same("offset", n, offset))
	})
}

// groupResume: offsets through Sarama's offset manager, which works with brokers from 0.9 on; then a member that goes on from them.
func groupResume() error {
	group, topic := Family+"-resume", Family+"-resume"
	client, err := sarama.NewClient([]string{Address}, config("manager"))
	if err != nil {
		return err
	}
	defer client.Close()
	for round := 0; round < 2; round++ {
		om, err := sarama.NewOffsetManagerFromClient(group, client)
		if err != nil {
			return err
		}
		for p := 0; p < ResumePartitions; p++ {
			pom, err := om.ManagePartition(topic, int32(p))
			if err != nil {
				return err
			}
			next, metadata := pom.NextOffset()
			if round == 0 {
				err = Same("nothing is committed", sarama.OffsetOldest, next)
				pom.MarkOffset(int64(ResumeAt+p), fmt.Sprintf("note %d", p))
			} else {
				err = First(Same("committed", ResumeAt+p, next), Same("metadata", fmt.Sprintf("note %d", p), metadata))
			}
			if err != nil {
				return err
			}
			pom.AsyncClose()
		}
		om.Commit()
		if err := om.Close(); err != nil {
			return err
		}
	}
	if !hasGroups {
		return nil
	}
	g, err := sarama.NewConsumerGroup([]string{Address}, group, config("resumer"))
	if err != nil {
		return err
	}
	defer g.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	got := make(chan *sarama.ConsumerMessage, ResumePartitions*ResumeRecords)
	go g.Consume(ctx, []string{topic}, &handler{stop: func(m *sarama.ConsumerMessage) bool { got <- m; return false }})
	next := []int64{ResumeAt, ResumeAt + 1}
	for next[0] < ResumeRecords || next[1] < ResumeRecords {
		select {
		case m := <-got:
			if err := Same(fmt.Sprintf("next offset of %d", m.Partition), next[m.Partition], m.Offset); err != nil {
				return err
			}
			next[m.Partition]++
		case err := <-g.Errors():
			return err
		case <-ctx.Done():
			return fmt.Errorf("only %v came", next)
		}
	}
	return nil
}

func groupAdmin() error {
	if !hasAdmin || !hasGroups {
		return ErrSkip("no administration for that broker version")
	}
	group := Family + "-admin"
	a, err := sarama.NewClusterAdmin([]string{Address}, config("admin"))
	if err != nil {
		return err
	}
	defer a.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	g, err := sarama.NewConsumerGroup([]string{Address}, group, config("the-member"))
	if err != nil {
		return err
	}
	go g.Consume(ctx, []string{Family + "-admin"}, &handler{stop: func(*sarama.ConsumerMessage) bool { return false }})
	describe := func() (*sarama.GroupDescription, error) {
		d, err := a.DescribeConsumerGroups([]string{group})
		if err != nil {
			return nil, err
		}
		return d[0], nil
	}
	err = Eventually("the group is stable", 60, func() (bool, error) {
		d, err := describe()
		return err == nil && d.State == "Stable" && len(d.Members) == 1, nil
	})
	if err != nil {
		return err
	}
	d, err := describe()
	if err != nil {
		return err
	}
	for _, m := range d.Members {
		assignment, err := m.GetMemberAssignment()
		if err := First(err, Same("client id", "the-member", m.ClientId)); err != nil {
			return err
		}
		if err := Same("assignment", map[string][]int32{Family + "-admin": {0}}, assignment.Topics); err != nil {
			return err
		}
	}
	groups, err := a.ListConsumerGroups()
	if err := First(err, Same("its kind in the list", "consumer", groups[group])); err != nil {
		return err
	}
	if version.IsAtLeast(sarama.V1_1_0_0) {
		if err := a.DeleteConsumerGroup(group); !errors.Is(err, sarama.ErrNonEmptyGroup) {
			return fmt.Errorf("deleting a group with members: %v", err)
		}
	}
	cancel()
	if err := g.Close(); err != nil {
		return err
	}
	err = Eventually("the group is empty", 20, func() (bool, error) {
		d, err := describe()
		return err == nil && d.State == "Empty" && len(d.Members) == 0, err
	})
	if err != nil || !version.IsAtLeast(sarama.V1_1_0_0) {
		return err
	}
	if err := a.DeleteConsumerGroup(group); err != nil {
		return err
	}
	d, err = describe()
	if err := First(err, Same("state of the group that is gone", "Dead", d.State)); err != nil {
		return err
	}
	if err := a.DeleteConsumerGroup(group); !errors.Is(err, sarama.ErrGroupIDNotFound) {
		return fmt.Errorf("deleting a group that is gone: %v", err)
	}
	groups, err = a.ListConsumerGroups()
	if _, there := groups[group]; err == nil && there {
		return fmt.Errorf("the group is still listed")
	}
	return err
}

func topics() error {
	if !hasAdmin {
		return ErrSkip("no administration for that broker version")
	}
	a, err := sarama.NewClusterAdmin([]string{Address}, config("admin"))
	if err != nil {
		return err
	}
	defer a.Close()
	name, value := Family+"-made", "123456"
	detail := &sarama.TopicDetail{NumPartitions: 2, ReplicationFactor: 1, ConfigEntries: map[string]*string{"retention.ms": &value}}
	if err := a.CreateTopic(name, detail, false); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	if err := a.CreateTopic(name, detail, false); !errors.Is(err, sarama.ErrTopicAlreadyExists) {
		return fmt.Errorf("creating it again: %v", err)
	}
	configOf := func(key string) (string, error) {
		entries, err := a.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: name})
		for _, e := range entries {
			if e.Name == key {
				return e.Value, err
			}
		}
		return "none", err
	}
	// Kafka's brokers learn of a change a moment after it was answered.
	holds := func(what string, check func(retention, size string) bool) error {
		return Eventually(what, 10, func() (bool, error) {
			retention, err1 := configOf("retention.ms")
			size, err2 := configOf("max.message.bytes")
			return err1 == nil && err2 == nil && check(retention, size), nil
		})
	}
	if err := holds("retention.ms is set", func(r, s string) bool { return r == value }); err != nil {
		return err
	}
	if version.IsAtLeast(sarama.V1_0_0_0) {
		if err := a.CreatePartitions(name, 4, nil, false); err != nil {
			return fmt.Errorf("more partitions: %w", err)
		}
		if err := a.CreatePartitions(name, 3, nil, false); err == nil {
			return fmt.Errorf("fewer partitions were accepted")
		}
		err = Eventually("four partitions", 20, func() (bool, error) {
			t, err := a.DescribeTopics([]string{name})
			return err == nil && len(t[0].Partitions) == 4, nil
		})
		if err != nil {
			return err
		}
	}
	size := "54321"
	if err := a.AlterConfig(sarama.TopicResource, name, map[string]*string{"max.message.bytes": &size}, false); err != nil {
		return fmt.Errorf("alter: %w", err)
	}
	if err := holds("AlterConfigs drops what it does not name", func(r, s string) bool { return r != value && s == size }); err != nil {
		return err
	}
	if version.IsAtLeast(sarama.V2_3_0_0) {
		entry := map[string]sarama.IncrementalAlterConfigsEntry{"retention.ms": {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value}}
		if err := a.IncrementalAlterConfig(sarama.TopicResource, name, entry, false); err != nil {
			return fmt.Errorf("alter incrementally: %w", err)
		}
		if err := holds("both are set", func(r, s string) bool { return r == value && s == size }); err != nil {
			return err
		}
	}
	err = Eventually("the topic is listed", 10, func() (bool, error) { all, err := a.ListTopics(); _, there := all[name]; return there, err })
	if err != nil {
		return err
	}
	if version.IsAtLeast(sarama.V0_11_0_0) {
		if err := write(config("writer"), name, 1, 0, 30, true); err != nil {
			return err
		}
		if err := a.DeleteRecords(name, map[int32]int64{0: 10}); err != nil {
			return fmt.Errorf("delete records: %w", err)
		}
		client, err := sarama.NewClient([]string{Address}, config("reader"))
		if err != nil {
			return err
		}
		defer client.Close()
		oldest, err := client.GetOffset(name, 0, sarama.OffsetOldest)
		if err := First(err, Same("oldest after records were deleted", 10, oldest)); err != nil {
			return err
		}
	}
	if err := a.DeleteTopic(name); err != nil {
		return err
	}
	err = Eventually("it is gone", 20, func() (bool, error) {
		t, err := a.DescribeTopics([]string{name})
		return err == nil && t[0].Err == sarama.ErrUnknownTopicOrPartition, err
	})
	if err != nil {
		return err
	}
	if err := a.DeleteTopic(name); !errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		return fmt.Errorf("deleting it again: %v", err)
	}
	return nil
}

func times() error {
	topic := Family + "-times"
	client, err := sarama.NewClient([]string{Address}, config("reader"))
	if err != nil {
		return err
	}
	defer client.Close()
	c, err := sarama.NewConsumerFromClient(client)
	if err != nil {
		return err
	}
	defer c.Close()
	for _, at := range []int{70, 0, TimesRecords - 1} {
		pc, err := c.ConsumePartition(topic, 0, int64(at))
		if err != nil {
			return err
		}
		select {
		case m := <-pc.Messages():
			err = check(m, at)
		case e := <-pc.Errors():
			err = e
		case <-time.After(20 * time.Second):
			err = fmt.Errorf("no record at %d", at)
		}
		pc.Close()
		if err != nil {
			return err
		}
	}
	if _, err := c.ConsumePartition(topic, 0, TimesRecords+1000); !errors.Is(err, sarama.ErrOffsetOutOfRange) {
		return fmt.Errorf("an offset behind the end: %v", err)
	}
	if !version.IsAtLeast(sarama.V0_10_1_0) {
		return nil
	}
	for _, x := range [][2]int64{{Base, 0}, {Base + 500, 50}, {Base + 501, 51}, {1, 0}, {Base + 10*TimesRecords, -1}} {
		offset, err := client.GetOffset(topic, 0, x[0])
		if err := First(err, Same(fmt.Sprintf("offset for %d", x[0]-Base), x[1], offset)); err != nil {
			return err
		}
	}
	return nil
}

func unknownTopic() error {
	c := config("writer")
	c.Metadata.Retry.Max, c.Producer.Retry.Max = 1, 1
	err := write(c, Family+"-nowhere", 1, 0, 1, false)
	if !errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		return fmt.Errorf("writing to a topic that is not there: %v", err)
	}
	client, err := sarama.NewClient([]string{Address}, c)
	if err != nil {
		return err
	}
	defer client.Close()
	if _, err := client.Partitions(Family + "-nowhere"); !errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		return fmt.Errorf("partitions of a topic that is not there: %v", err)
	}
	return nil
}

func main() {
	checks := []Check{{"group-share", groupShare}, {"group-resume", groupResume}, {"group-admin", groupAdmin}, {"topics", topics}, {"times", times},
		{"unknown-topic", unknownTopic}, {"acks", acks}, {"idempotent", idempotent}}
	for _, codec := range Codecs {
		codec := codec
		checks = append(checks, Check{"data-" + codec, func() error { return data(codec) }}, Check{"peer-" + codec, func() error { return peer(codec) }})
	}
	Run(checks)
}
