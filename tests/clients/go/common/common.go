// Package common is what the programs of the Go clients share: the records, and how checks run. See family.py and records.py, which
// have the same in Python and say what is meant.
package common

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	PeerPartitions, PeerRecords               = 2, 60
	DataPartitions, DataRecords               = 3, 100
	SharePartitions, ShareRecords, ShareMore  = 6, 50, 20
	ResumePartitions, ResumeRecords, ResumeAt = 2, 100, 40
	TimesRecords                              = 100
)

var Codecs = []string{"none", "gzip", "snappy", "lz4", "zstd"}

// The arguments of the program.
var (
	Address = os.Args[1]
	Family  = os.Args[2]
	Base    = func() int64 { n, _ := strconv.ParseInt(os.Args[3], 10, 64); return n }()
)

type Header struct {
	Key   string
	Value []byte
}

// A Record is what a client sends or gets; nil is null. Older formats have no headers, and the oldest no timestamps.
type Record struct {
	Key, Value []byte
	Headers    []Header
	Timestamp  int64
}

func RecordOf(partition, n int) Record {
	r := Record{Timestamp: Base + int64(10*n)}
	if n%8 != 7 {
		r.Key = []byte(fmt.Sprintf("key-%d-%d", partition, n))
	}
	if n%16 != 14 {
		r.Value = make([]byte, n*37%900)
		for i := range r.Value {
			r.Value[i] = byte(n*7 + i*3 + partition)
		}
	}
	for i := 0; i < n%3; i++ {
		r.Headers = append(r.Headers, Header{fmt.Sprintf("h%d", i), []byte(fmt.Sprintf("%d.%d", n, i))})
	}
	return r
}

// Compare tells what differs. A client that has no difference between null and empty sets exactNull to false.
func Compare(partition, n int, found Record, exactNull, headers, timestamps bool) error {
	expected := RecordOf(partition, n)
	equal := func(a, b []byte) bool { return bytes.Equal(a, b) && (!exactNull || (a == nil) == (b == nil)) }
	what := ""
	switch {
	case !equal(expected.Key, found.Key):
		what = fmt.Sprintf("key %q, found %q", expected.Key, found.Key)
	case !equal(expected.Value, found.Value):
		what = fmt.Sprintf("value %.60q, found %.60q", expected.Value, found.Value)
	case timestamps && expected.Timestamp != found.Timestamp:
		what = fmt.Sprintf("timestamp %d, found %d", expected.Timestamp, found.Timestamp)
	case headers && len(expected.Headers) != len(found.Headers) || !headers && len(found.Headers) != 0:
		what = fmt.Sprintf("headers %v, found %v", expected.Headers, found.Headers)
	}
	if what == "" && headers {
		for i, h := range expected.Headers {
			if h.Key != found.Headers[i].Key || !bytes.Equal(h.Value, found.Headers[i].Value) {
				what = fmt.Sprintf("header %v, found %v", h, found.Headers[i])
			}
		}
	}
	if what != "" {
		return fmt.Errorf("record %d of partition %d: expected %s", n, partition, what)
	}
	return nil
}

// ErrSkip: this client cannot do that.
type ErrSkip string

func (e ErrSkip) Error() string { return string(e) }

type Check struct {
	Name string
	Run  func() error
}

// Run runs all checks at a time and prints a line for each.
func Run(checks []Check) {
	var group sync.WaitGroup
	var lock sync.Mutex
	for _, c := range checks {
		group.Add(1)
		go func(c Check) {
			defer group.Done()
			began := time.Now()
			err := c.Run()
			lock.Lock()
			defer lock.Unlock()
			var skip ErrSkip
			switch {
			case err == nil:
				fmt.Printf("ok %s\n   (%.1f s)\n", c.Name, time.Since(began).Seconds())
			case errors.As(err, &skip):
				fmt.Printf("skip %s: %s\n", c.Name, skip)
			default:
				fmt.Printf("not ok %s: %s\n", c.Name, strings.Join(strings.Fields(err.Error()), " "))
			}
		}(c)
	}
	group.Wait()
}

func Same(what string, expected, found interface{}) error {
	if e, f := fmt.Sprint(expected), fmt.Sprint(found); e != f {
		return fmt.Errorf("%s: expected %.200s, found %.200s", what, e, f)
	}
	return nil
}

// First is the first of several errors.
func First(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Eventually waits until the check says true; an error of its own ends it at once.
func Eventually(what string, seconds int, check func() (bool, error)) error {
	end := time.Now().Add(time.Duration(seconds) * time.Second)
	for {
		done, err := check()
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if done {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("not within %d s: %s", seconds, what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Sharing is what the members of a group have read and committed, and who has which partitions.
type Sharing struct {
	lock     sync.Mutex
	read     map[[2]int]int
	assigned map[string]map[int]bool
	err      error
}

func NewSharing() *Sharing {
	return &Sharing{read: map[[2]int]int{}, assigned: map[string]map[int]bool{}}
}

func (s *Sharing) Done(partition, n int) {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.read[[2]int{partition, n}]++
}

func (s *Sharing) Assign(member string, partitions []int32) {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.assigned[member] = map[int]bool{}
	for _, p := range partitions {
		s.assigned[member][int(p)] = true
	}
}

func (s *Sharing) Gone(member string) {
	s.lock.Lock()
	defer s.lock.Unlock()
	delete(s.assigned, member)
}

// Fail makes every later question an error.
func (s *Sharing) Fail(err error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	if s.err == nil {
		s.err = err
	}
}

func (s *Sharing) String() string {
	s.lock.Lock()
	defer s.lock.Unlock()
	return fmt.Sprint(s.assigned)
}

// IsShared: each of so many members has its share, and none has what another has.
func (s *Sharing) IsShared(members int) (bool, error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	all := map[int]bool{}
	for _, set := range s.assigned {
		if len(set) != SharePartitions/members {
			return false, s.err
		}
		for p := range set {
			all[p] = true
		}
	}
	return len(s.assigned) == members && len(all) == SharePartitions, s.err
}

// Has: everything up to this record was read.
func (s *Sharing) Has(count int) (bool, error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	return len(s.read) >= SharePartitions*count, s.err
}

// Check: nothing else was read, and nothing twice.
func (s *Sharing) Check(count int) error {
	s.lock.Lock()
	defer s.lock.Unlock()
	for p := 0; p < SharePartitions; p++ {
		for n := 0; n < count; n++ {
			if times := s.read[[2]int{p, n}]; times != 1 {
				return fmt.Errorf("record %d of partition %d was read %d times", n, p, times)
			}
		}
	}
	return Same("records read", SharePartitions*count, len(s.read))
}

// Shared runs the check of group-share with members that `start` starts and whose `stop` it returns.
func Shared(start func(s *Sharing, member string) (stop func()), write func(partition, n int) error) error {
	s := NewSharing()
	stops := []func(){}
	for i := 0; i < 3; i++ {
		stops = append(stops, start(s, fmt.Sprintf("%s-m%d", Family, i)))
	}
	phase := func(members, count int) error {
		if err := Eventually(fmt.Sprintf("%d members share", members), 60, func() (bool, error) { return s.IsShared(members) }); err != nil {
			return fmt.Errorf("%w; they have %s", err, s)
		}
		if count == ShareRecords+ShareMore {
			for n := ShareRecords; n < count; n++ {
				for p := 0; p < SharePartitions; p++ {
					if err := write(p, n); err != nil {
						return err
					}
				}
			}
		}
		if err := Eventually("all was read", 40, func() (bool, error) { return s.Has(count) }); err != nil {
			return err
		}
		return s.Check(count)
	}
	if err := phase(3, ShareRecords); err != nil {
		return err
	}
	stops[1]()
	if err := phase(2, ShareRecords+ShareMore); err != nil {
		return err
	}
	stops[0]()
	stops[2]()
	if s.err != nil {
		return s.err
	}
	return s.Check(ShareRecords + ShareMore)
}
