// franz-go behind the line protocol of protocol.md.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"runtime/debug"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const wait = 60 * time.Second

type request struct {
	Do          string            `json:"do"`
	Call        string            `json:"call"`
	At          string            `json:"at"`
	Topic       string            `json:"topic"`
	Set         *recordSet        `json:"set"`
	First       int64             `json:"first"`
	Count       int64             `json:"count"`
	Codec       string            `json:"codec"`
	Idempotent  bool              `json:"idempotent"`
	PerS        float64           `json:"per_s"`
	RequestMax  int32             `json:"request_max"`
	BytesMax    int32             `json:"bytes_max"`
	Bytes       int               `json:"bytes"`
	Partition   int32             `json:"partition"`
	Partitions  json.RawMessage   `json:"partitions"`
	Reader      string            `json:"reader"`
	Reset       string            `json:"reset"`
	Offsets     map[int32]int64   `json:"offsets"`
	TimeoutS    float64           `json:"timeout_s"`
	Times       map[int32]int64   `json:"times"`
	Member      string            `json:"member"`
	Group       string            `json:"group"`
	Instance    string            `json:"instance"`
	Cooperative bool              `json:"cooperative"`
	SessionMs   int               `json:"session_ms"`
	Configs     map[string]string `json:"configs"`
	Key         string            `json:"key"`
	Value       string            `json:"value"`
	Offset      int64             `json:"offset"`
}

func (r *request) number() (n int32) {
	_ = json.Unmarshal(r.Partitions, &n)
	return n
}

func (r *request) named() map[string][]int32 {
	var partitions []int32
	_ = json.Unmarshal(r.Partitions, &partitions)
	return map[string][]int32{r.Topic: partitions}
}

// clientError is an error that the library has no name for.
type clientError struct{ name, text string }

func (e *clientError) Error() string { return e.text }

func connect(r *request, more ...kgo.Opt) (*kgo.Client, error) {
	options := []kgo.Opt{
		kgo.SeedBrokers(strings.Split(r.At, ",")...),
		kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }),
	}
	return kgo.NewClient(append(options, more...)...)
}

func codec(name string) kgo.CompressionCodec {
	switch name {
	case "gzip":
		return kgo.GzipCompression()
	case "snappy":
		return kgo.SnappyCompression()
	case "lz4":
		return kgo.Lz4Compression()
	case "zstd":
		return kgo.ZstdCompression()
	}
	return kgo.NoCompression()
}

func sizes(r *request) []kgo.Opt {
	if r.RequestMax == 0 {
		return nil
	}
	return []kgo.Opt{kgo.ProducerBatchMaxBytes(r.RequestMax), kgo.BrokerMaxWriteBytes(100 << 20)}
}

func produce(r *request) (any, error) {
	done := newTold(r.Set)
	options := append(sizes(r), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(codec(r.Codec)),
		kgo.ProducerLinger(5*time.Millisecond), kgo.MaxBufferedRecords(20_000))
	if !r.Idempotent {
		options = append(options, kgo.DisableIdempotentWrite(), kgo.MaxProduceRequestsInflightPerBroker(1))
	}
	client, err := connect(r, options...)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	failed := make(chan error, 1)
	began := time.Now()
	for number := int64(0); number < r.Count; number++ {
		if r.PerS > 0 && number%50 == 0 {
			time.Sleep(time.Until(began.Add(time.Duration(float64(number) / r.PerS * float64(time.Second)))))
		}
		index := r.First + number
		record := &kgo.Record{
			Topic: r.Topic, Partition: int32(index % r.Set.Partitions), Key: r.Set.key(index), Value: r.Set.value(index),
			Headers: r.Set.headers(index), Timestamp: time.UnixMilli(r.Set.TimeMs + index),
		}
		client.Produce(context.Background(), record, func(record *kgo.Record, err error) {
			if err != nil {
				select {
				case failed <- err:
				default:
				}
				return
			}
			done.place(record.Partition, 0, record.Offset, record.Timestamp.UnixMilli()-r.Set.TimeMs)
		})
	}
	limited, cancel := context.WithTimeout(context.Background(), 2*wait)
	defer cancel()
	if err := client.Flush(limited); err != nil {
		return nil, err
	}
	select {
	case err := <-failed:
		return nil, err
	default:
		return done.answer(), nil
	}
}

func send(r *request) (any, error) {
	options := append(sizes(r), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RecordDeliveryTimeout(4*time.Second),
		kgo.UnknownTopicRetries(2), kgo.ProducerBatchCompression(kgo.NoCompression()))
	client, err := connect(r, options...)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	limited, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	record := &kgo.Record{Topic: r.Topic, Partition: r.Partition, Value: make([]byte, r.Bytes)}
	if err := client.ProduceSync(limited, record).FirstErr(); err != nil {
		return nil, err
	}
	return map[string]any{"offset": record.Offset}, nil
}

// reader assigns itself partitions.
type reader struct {
	told   *told
	client *kgo.Client
	topic  string
	stint  map[int32]int64
}

func open(r *request) (*reader, error) {
	start := map[string]kgo.Offset{"latest": kgo.NewOffset().AtEnd(), "none": kgo.NoResetOffset()}[r.Reset]
	if r.Reset == "" || r.Reset == "earliest" {
		start = kgo.NewOffset().AtStart()
	}
	made := &reader{told: newTold(r.Set), topic: r.Topic, stint: map[int32]int64{}}
	assigned := map[int32]kgo.Offset{}
	for partition := int32(0); int64(partition) < r.Set.Partitions; partition++ {
		assigned[partition] = kgo.NewOffset().AtStart()
		if r.Reset == "latest" {
			assigned[partition] = start
		}
	}
	options := []kgo.Opt{
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{r.Topic: assigned}), kgo.ConsumeResetOffset(start),
		kgo.FetchMaxWait(100 * time.Millisecond), kgo.KeepRetryableFetchErrors(),
	}
	if r.BytesMax > 0 {
		options = append(options, kgo.FetchMaxPartitionBytes(r.BytesMax))
	}
	client, err := connect(r, options...)
	made.client = client
	return made, err
}

func (c *reader) read(r *request) (any, error) {
	limit := wait
	if r.TimeoutS > 0 {
		limit = time.Duration(r.TimeoutS * float64(time.Second))
	}
	limited, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for c.told.counted() < r.Count {
		fetches := c.client.PollRecords(limited, min(int(r.Count-c.told.counted()), 10_000))
		fetches.EachRecord(func(record *kgo.Record) { c.told.read(record, c.stint[record.Partition]) })
		if limited.Err() != nil && c.told.counted() < r.Count {
			return nil, &clientError{"Timeout", fmt.Sprintf("%d of %d records came", c.told.counted(), r.Count)}
		}
		if err := fetches.Err0(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return nil, err
		}
		for _, failed := range fetches.Errors() {
			return nil, failed.Err
		}
	}
	return c.told.answer(), nil
}

func (c *reader) seek(r *request) {
	offsets := map[int32]kgo.EpochOffset{}
	for partition, offset := range r.Offsets {
		c.stint[partition]++
		offsets[partition] = kgo.EpochOffset{Epoch: -1, Offset: offset}
	}
	c.client.SetOffsets(map[string]map[int32]kgo.EpochOffset{c.topic: offsets})
}

func admin(r *request) (any, error) {
	client, err := connect(r)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	a := kadm.NewClient(client)
	switch r.Call {
	case "create":
		configs := map[string]*string{}
		for key, value := range r.Configs {
			configs[key] = &value
		}
		_, err := a.CreateTopic(ctx, r.number(), 1, configs, r.Topic)
		return nil, err
	case "partitions":
		topics, err := a.ListTopics(ctx, r.Topic)
		if err == nil {
			err = topics[r.Topic].Err
		}
		return len(topics[r.Topic].Partitions), err
	case "grow":
		answers, err := a.UpdatePartitions(ctx, int(r.number()), r.Topic)
		return nil, errors.Join(err, answers.Error())
	case "alter":
		answers, err := a.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: r.Key, Value: &r.Value}}, r.Topic)
		if err != nil {
			return nil, err
		}
		return nil, answers[0].Err
	case "config":
		answers, err := a.DescribeTopicConfigs(ctx, r.Topic)
		if err != nil {
			return nil, err
		}
		for _, config := range answers[0].Configs {
			if config.Key == r.Key {
				return config.MaybeValue(), nil
			}
		}
		return nil, answers[0].Err
	case "delete":
		_, err := a.DeleteTopic(ctx, r.Topic)
		return nil, err
	case "groups":
		groups, err := a.ListGroups(ctx)
		_, found := groups[r.Group]
		return found, err
	case "committed":
		answers, err := a.FetchOffsets(ctx, r.Group)
		found := map[int32]int64{}
		answers.Each(func(each kadm.OffsetResponse) { found[each.Partition] = each.At })
		return found, err
	case "delete_group":
		_, err := a.DeleteGroup(ctx, r.Group)
		return nil, err
	case "truncate":
		offsets := kadm.Offsets{}
		offsets.AddOffset(r.Topic, r.Partition, r.Offset, -1)
		answers, err := a.DeleteRecords(ctx, offsets)
		return nil, errors.Join(err, answers.Error())
	}
	return nil, &clientError{"NoSuchCall", r.Call}
}

func times(r *request) (any, error) {
	client, err := connect(r)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	found := map[int32]int64{}
	for partition, ms := range r.Times {
		listed, err := kadm.NewClient(client).ListOffsetsAfterMilli(context.Background(), ms, r.Topic)
		if err != nil {
			return nil, err
		}
		answer, _ := listed.Lookup(r.Topic, partition)
		if answer.Err != nil {
			return nil, answer.Err
		}
		found[partition] = answer.Offset
		if answer.Timestamp < 0 { // kadm tells the end where nothing is that late
			found[partition] = -1
		}
	}
	return found, nil
}

func ends(r *request) (any, error) {
	client, err := connect(r)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	first, err := kadm.NewClient(client).ListStartOffsets(context.Background(), r.Topic)
	if err != nil {
		return nil, err
	}
	end, err := kadm.NewClient(client).ListEndOffsets(context.Background(), r.Topic)
	found := map[int32][2]int64{}
	for partition := int32(0); partition < r.number(); partition++ {
		from, _ := first.Lookup(r.Topic, partition)
		to, _ := end.Lookup(r.Topic, partition)
		if from.Err != nil {
			return nil, from.Err
		}
		found[partition] = [2]int64{from.Offset, to.Offset}
	}
	return found, err
}

type driver struct {
	readers map[string]*reader
	members map[string]*member
}

func (d *driver) answer(r *request) (any, error) {
	nothing := map[string]any{}
	switch r.Do {
	case "version":
		version := "?"
		if info, ok := debug.ReadBuildInfo(); ok {
			for _, module := range info.Deps {
				if module.Path == "github.com/twmb/franz-go" {
					version = strings.TrimPrefix(module.Version, "v")
				}
			}
		}
		return map[string]string{"client": "franz-go", "version": version}, nil
	case "produce":
		return produce(r)
	case "send":
		return send(r)
	case "admin":
		return admin(r)
	case "times":
		return times(r)
	case "ends":
		return ends(r)
	case "open":
		made, err := open(r)
		d.readers[r.Reader] = made
		return nothing, err
	case "read":
		return d.readers[r.Reader].read(r)
	case "seek":
		d.readers[r.Reader].seek(r)
		return nothing, nil
	case "pause":
		r.Topic = d.readers[r.Reader].topic
		d.readers[r.Reader].client.PauseFetchPartitions(r.named())
		return nothing, nil
	case "resume":
		r.Topic = d.readers[r.Reader].topic
		d.readers[r.Reader].client.ResumeFetchPartitions(r.named())
		return nothing, nil
	case "close":
		d.readers[r.Reader].client.Close()
		delete(d.readers, r.Reader)
		return nothing, nil
	case "join":
		joined, err := join(r)
		d.members[r.Member] = joined
		return nothing, err
	case "owned":
		return d.members[r.Member].state(), nil
	case "leave":
		left := d.members[r.Member]
		delete(d.members, r.Member)
		return left.leave(), nil
	}
	return nil, &clientError{"NoSuchCall", r.Do}
}

func toError(err error) map[string]any {
	name := reflect.TypeOf(err).String()
	var code any
	var known *kerr.Error
	var own *clientError
	switch {
	case errors.As(err, &known):
		name, code = known.Message, known.Code
	case errors.As(err, &own):
		name = own.name
	}
	return map[string]any{"name": name, "code": code, "text": err.Error()}
}

func main() {
	d := &driver{map[string]*reader{}, map[string]*member{}}
	lines := bufio.NewReaderSize(os.Stdin, 1<<20)
	answers := json.NewEncoder(os.Stdout)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		r := &request{SessionMs: 10_000}
		if err := json.Unmarshal(line, r); err != nil {
			_ = answers.Encode(map[string]any{"error": toError(err)})
			continue
		}
		if answer, err := d.answer(r); err != nil {
			_ = answers.Encode(map[string]any{"error": toError(err)})
		} else {
			_ = answers.Encode(map[string]any{"ok": answer})
		}
	}
}
