package main

import (
	"context"
	"sort"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// member of a group, until it leaves.
type member struct {
	told   *told
	client *kgo.Client
	lock   sync.Mutex
	stint  map[int32]int64
	owned  map[int32]bool
	failed string
	ended  context.CancelFunc
	done   chan struct{}
}

func join(r *request) (*member, error) {
	m := &member{told: newTold(r.Set), stint: map[int32]int64{}, owned: map[int32]bool{}, done: make(chan struct{})}
	balancer := kgo.RangeBalancer()
	if r.Cooperative {
		balancer = kgo.CooperativeStickyBalancer()
	}
	lost := func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
		m.lock.Lock()
		defer m.lock.Unlock()
		for _, partition := range partitions[r.Topic] {
			delete(m.owned, partition)
		}
	}
	options := []kgo.Opt{
		kgo.ConsumerGroup(r.Group), kgo.ConsumeTopics(r.Topic), kgo.Balancers(balancer),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100 * time.Millisecond),
		kgo.SessionTimeout(time.Duration(r.SessionMs) * time.Millisecond),
		kgo.HeartbeatInterval(300 * time.Millisecond), kgo.AutoCommitInterval(200 * time.Millisecond),
		kgo.BlockRebalanceOnPoll(), kgo.OnPartitionsRevoked(lost), kgo.OnPartitionsLost(lost),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
			m.lock.Lock()
			defer m.lock.Unlock()
			for _, partition := range partitions[r.Topic] {
				m.stint[partition]++
				m.owned[partition] = true
			}
		}),
	}
	if r.Instance != "" {
		options = append(options, kgo.InstanceID(r.Instance))
	}
	client, err := connect(r, options...)
	if err != nil {
		return nil, err
	}
	m.client = client
	running, ended := context.WithCancel(context.Background())
	m.ended = ended
	go m.run(running)
	return m, nil
}

func (m *member) run(running context.Context) {
	defer close(m.done)
	for running.Err() == nil {
		limited, cancel := context.WithTimeout(running, 50*time.Millisecond)
		fetches := m.client.PollRecords(limited, 500)
		cancel()
		m.lock.Lock()
		fetches.EachRecord(func(record *kgo.Record) { m.told.read(record, m.stint[record.Partition]) })
		m.lock.Unlock()
		m.client.AllowRebalance()
	}
	m.client.CloseAllowingRebalance()
}

func (m *member) state() map[string]any {
	m.lock.Lock()
	defer m.lock.Unlock()
	owned := []int32{}
	for partition := range m.owned {
		owned = append(owned, partition)
	}
	sort.Slice(owned, func(a, b int) bool { return owned[a] < owned[b] })
	return map[string]any{"owned": owned, "count": m.told.counted(), "error": m.failed}
}

func (m *member) leave() map[string]any {
	m.ended()
	<-m.done
	answer := m.told.answer()
	answer["error"] = m.failed
	return answer
}
