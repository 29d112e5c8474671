package main

import (
	"bytes"
	"fmt"
	"strconv"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

const noiseBytes = 4099

// recordSet makes records by index.
type recordSet struct {
	Seed       string `json:"seed"`
	TimeMs     int64  `json:"time_ms"`
	Size       int64  `json:"size"`
	Mixed      bool   `json:"mixed"`
	Partitions int64  `json:"partitions"`
	Nulls      bool   `json:"null_headers"`
	noise      []byte
}

func (s *recordSet) prepare() {
	x := uint32(12345)
	one := make([]byte, noiseBytes)
	for at := range one {
		x = (x*1103515245 + 12345) & 0x7fffffff
		one[at] = byte(x >> 16)
	}
	s.noise = bytes.Repeat(one, int(s.Size/noiseBytes)+2)
}

func (s *recordSet) value(index int64) []byte {
	if s.Mixed && index%10 == 7 {
		return nil
	}
	length := int(s.Size + index%17)
	made := make([]byte, 0, length+40)
	made = append(made, s.Seed...)
	made = append(made, ':')
	made = strconv.AppendInt(made, index, 10)
	made = append(made, ':')
	if len(made) < length {
		at := int(index % noiseBytes)
		made = append(made, s.noise[at:at+length-len(made)]...)
	}
	return made
}

func (s *recordSet) key(index int64) []byte {
	if s.Mixed && index%10 == 3 {
		return nil
	}
	return strconv.AppendInt([]byte("k"), index%97, 10)
}

func (s *recordSet) headers(index int64) []kgo.RecordHeader {
	if !s.Mixed || index%10 != 5 {
		return nil
	}
	headers := []kgo.RecordHeader{
		{Key: "n", Value: []byte(strconv.FormatInt(index, 10))}, {Key: "empty", Value: []byte{}}, {Key: "null"},
	}
	if !s.Nulls {
		headers[2].Value = []byte("-")
	}
	return headers
}

// same tells nil from empty.
func same(a, b []byte) bool {
	return (a == nil) == (b == nil) && bytes.Equal(a, b)
}

func sameHeaders(a, b []kgo.RecordHeader) bool {
	if len(a) != len(b) {
		return false
	}
	for at := range a {
		if a[at].Key != b[at].Key || !same(a[at].Value, b[at].Value) {
			return false
		}
	}
	return true
}

// told is what a consumer found, or a producer was acknowledged.
type told struct {
	lock       sync.Mutex
	records    *recordSet
	runs       [][5]int64
	mismatches []string
	count      int64
	open       map[int32]int
}

func newTold(records *recordSet) *told {
	records.prepare()
	return &told{records: records, runs: [][5]int64{}, mismatches: []string{}, open: map[int32]int{}}
}

func (t *told) place(partition int32, stint, offset, index int64) {
	t.lock.Lock()
	defer t.lock.Unlock()
	t.count++
	if at, found := t.open[partition]; found {
		run := &t.runs[at]
		if run[1] == stint && offset == run[2]+run[4] && index == run[3]+run[4]*t.records.Partitions {
			run[4]++
			return
		}
	}
	t.open[partition] = len(t.runs)
	t.runs = append(t.runs, [5]int64{int64(partition), stint, offset, index, 1})
}

func (t *told) read(record *kgo.Record, stint int64) {
	s := t.records
	index := record.Timestamp.UnixMilli() - s.TimeMs
	if !same(record.Key, s.key(index)) || !same(record.Value, s.value(index)) ||
		!sameHeaders(record.Headers, s.headers(index)) || int64(record.Partition) != index%s.Partitions {
		t.lock.Lock()
		if len(t.mismatches) < 5 {
			t.mismatches = append(t.mismatches,
				fmt.Sprintf("partition %d offset %d isn't record %d", record.Partition, record.Offset, index))
		}
		t.lock.Unlock()
	}
	t.place(record.Partition, stint, record.Offset, index)
}

func (t *told) answer() map[string]any {
	t.lock.Lock()
	defer t.lock.Unlock()
	answer := map[string]any{"runs": t.runs, "mismatches": t.mismatches, "count": t.count}
	t.runs, t.mismatches, t.count, t.open = [][5]int64{}, []string{}, 0, map[int32]int{}
	return answer
}

func (t *told) counted() int64 {
	t.lock.Lock()
	defer t.lock.Unlock()
	return t.count
}
