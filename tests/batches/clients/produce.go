// usage: produce KAFKA TOPIC CODEC
package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(os.Args[1]), kgo.DefaultProduceTopic(os.Args[2]), kgo.ProducerLinger(500*time.Millisecond),
		kgo.ProducerBatchCompression(codecs[os.Args[3]]),
	)
	if err != nil {
		panic(err)
	}
	var many []kgo.RecordHeader
	for number := range 20 {
		many = append(many, kgo.RecordHeader{Key: fmt.Sprintf("name %d", number), Value: []byte("value")})
	}
	odd := []kgo.RecordHeader{
		{Key: "x"}, {Key: "x", Value: []byte{}}, {Key: "x", Value: []byte("1")}, {Value: []byte("name")},
		{Key: "\xff", Value: []byte{0xff, 0xfe}},
	}
	results := client.ProduceSync(context.Background(),
		&kgo.Record{Key: []byte("key"), Value: []byte("plain")},
		&kgo.Record{Value: []byte("no key"), Headers: []kgo.RecordHeader{{Key: "a", Value: []byte("1")}}},
		&kgo.Record{Key: []byte("key")},
		&kgo.Record{Key: []byte{}, Value: []byte{}, Headers: odd},
		&kgo.Record{Key: []byte("key"), Value: []byte(strings.Repeat("v", 2000)), Headers: many},
	)
	if err := results.FirstErr(); err != nil {
		panic(err)
	}
}
