package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand"
	"strings"
	"sync"
	"time"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

const limit = 4 * 1024 * 1024

// sender sends in every way; one consumer collects the whole topic, by key.
type sender struct {
	topic    string
	producer rocketmq.Producer
	mutex    sync.Mutex
	received map[string][]*primitive.MessageExt
}

func sending(c *clients) {
	s := &sender{topic: c.topic("send"), received: map[string][]*primitive.MessageExt{}}
	var err error
	if s.producer, err = c.producer("send", producer.NewRoundRobinQueueSelector()); err != nil {
		run("send", func() error { return err })
		return
	}
	collector, err := c.consumer("collector")
	if err == nil {
		err = collector.Subscribe(s.topic, consumer.MessageSelector{}, func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
			s.mutex.Lock()
			defer s.mutex.Unlock()
			for _, message := range messages {
				s.received[message.GetKeys()] = append(s.received[message.GetKeys()], message)
			}
			return consumer.ConsumeSuccess, nil
		})
	}
	if err == nil {
		err = collector.Start()
	}
	if err != nil {
		run("send", func() error { return err })
		return
	}
	run("send-sync", s.sync)
	run("send-async", s.async)
	run("send-oneway", s.oneWay)
	run("send-batch", s.batch)
	run("chinese", s.chinese)
	run("filter-tags", func() error { return s.filterTags(c) })
	run("query-key", func() error { return skip("the client has no queries") })
	run("view-id", func() error { return skip("the client has no queries") })
	run("auto-create", func() error { return s.autoCreate(c) })
	run("body-0", func() error { return s.body("body-0", 0) })
	run("body-1k", func() error { return s.body("body-1k", 1024) })
	run("body-4m-1", func() error { return s.body("body-4m-1", limit-1) })
	run("body-over-4m", s.tooLarge)
	collector.Shutdown()
	s.producer.Shutdown()
}

func (s *sender) message(kind string, i int) *primitive.Message {
	message := primitive.NewMessage(s.topic, []byte(fmt.Sprintf("%s body %d", kind, i)))
	message.WithTag(kind).WithKeys([]string{fmt.Sprintf("%s-%d", kind, i)})
	message.WithProperty("number", fmt.Sprint(i))
	return message
}

func (s *sender) one(key string) (*primitive.MessageExt, error) {
	got := func() []*primitive.MessageExt {
		s.mutex.Lock()
		defer s.mutex.Unlock()
		return s.received[key]
	}
	if err := await(30*time.Second, "message "+key, func() bool { return len(got()) > 0 }); err != nil {
		return nil, err
	}
	if len(got()) != 1 {
		return nil, fmt.Errorf("%s came %d times", key, len(got()))
	}
	return got()[0], nil
}

func (s *sender) expect(kind string, count int) error {
	for i := 0; i < count; i++ {
		got, err := s.one(fmt.Sprintf("%s-%d", kind, i))
		if err != nil {
			return err
		}
		if string(got.Body) != fmt.Sprintf("%s body %d", kind, i) || got.GetTags() != kind || got.GetProperty("number") != fmt.Sprint(i) {
			return fmt.Errorf("another message came back: %v", got)
		}
	}
	return nil
}

func (s *sender) sync() error {
	for i := 0; i < 20; i++ {
		result, err := s.producer.SendSync(context.Background(), s.message("sync", i))
		if err != nil {
			return err
		}
		if result.Status != primitive.SendOK {
			return fmt.Errorf("status %d", result.Status)
		}
	}
	return s.expect("sync", 20)
}

func (s *sender) async() error {
	answers := make(chan error, 20)
	for i := 0; i < 20; i++ {
		err := s.producer.SendAsync(context.Background(), func(_ context.Context, _ *primitive.SendResult, err error) { answers <- err }, s.message("async", i))
		if err != nil {
			return err
		}
	}
	for i := 0; i < 20; i++ {
		select {
		case err := <-answers:
			if err != nil {
				return err
			}
		case <-time.After(20 * time.Second):
			return fmt.Errorf("%d of 20 answered", i)
		}
	}
	return s.expect("async", 20)
}

func (s *sender) oneWay() error {
	for i := 0; i < 20; i++ {
		if err := s.producer.SendOneWay(context.Background(), s.message("oneway", i)); err != nil {
			return err
		}
	}
	return s.expect("oneway", 20)
}

func (s *sender) batch() error {
	var messages []*primitive.Message
	for i := 0; i < 32; i++ {
		messages = append(messages, s.message("batch", i))
	}
	result, err := s.producer.SendSync(context.Background(), messages...)
	if err != nil {
		return err
	}
	if ids := len(strings.Split(result.OffsetMsgID, ",")); ids != 32 {
		return fmt.Errorf("ids of %d messages", ids)
	}
	return s.expect("batch", 32)
}

func (s *sender) chinese() error {
	message := primitive.NewMessage(s.topic, []byte("消息正文：你好，世界 🚀"))
	message.WithTag("标签").WithKeys([]string{"订单-中文键"})
	message.WithProperty("地区", "北京市海淀区")
	if _, err := s.producer.SendSync(context.Background(), message); err != nil {
		return err
	}
	got, err := s.one("订单-中文键")
	if err != nil {
		return err
	}
	if got.GetTags() != "标签" || got.GetProperty("地区") != "北京市海淀区" || string(got.Body) != "消息正文：你好，世界 🚀" {
		return fmt.Errorf("another message came back: %v", got)
	}
	return nil
}

func (s *sender) filterTags(c *clients) error {
	tagged := c.topic("tags")
	// This client hashes the bytes of a tag where RocketMQ hashes its characters, so a filter by a Chinese tag matches nothing on any server.
	tags := []string{"red", "green", "blue", "violet"}
	want := map[string]bool{}
	for i := 0; i < 40; i++ {
		key := fmt.Sprintf("t-%d", i)
		message := primitive.NewMessage(tagged, []byte(key)).WithTag(tags[i%4]).WithKeys([]string{key})
		if _, err := s.producer.SendSync(context.Background(), message); err != nil {
			return err
		}
		if i%4 == 1 || i%4 == 3 {
			want[key] = true
		}
	}
	var mutex sync.Mutex
	var got []string
	filtered, err := c.consumer("tags")
	if err != nil {
		return err
	}
	selector := consumer.MessageSelector{Type: consumer.TAG, Expression: "green || violet"}
	if err := filtered.Subscribe(tagged, selector, func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		mutex.Lock()
		defer mutex.Unlock()
		for _, message := range messages {
			got = append(got, message.GetKeys())
		}
		return consumer.ConsumeSuccess, nil
	}); err != nil {
		return err
	}
	if err := filtered.Start(); err != nil {
		return err
	}
	defer filtered.Shutdown()
	if err := await(20*time.Second, "all of the subscribed tags", func() bool {
		mutex.Lock()
		defer mutex.Unlock()
		return len(got) >= len(want)
	}); err != nil {
		return err
	}
	mutex.Lock()
	defer mutex.Unlock()
	for _, key := range got {
		if !want[key] || len(got) != len(want) {
			return fmt.Errorf("received %v", got)
		}
	}
	return nil
}

func (s *sender) autoCreate(c *clients) error {
	_, err := s.producer.SendSync(context.Background(), primitive.NewMessage(c.topic("auto"), []byte("created")))
	return err
}

func random(size int) []byte {
	body := make([]byte, size)
	rand.New(rand.NewSource(int64(size))).Read(body)
	return body
}

func (s *sender) body(key string, size int) error {
	message := primitive.NewMessage(s.topic, random(size)).WithTag("size").WithKeys([]string{key})
	_, err := s.producer.SendSync(context.Background(), message)
	if err != nil {
		// This client sends what others refuse themselves. The Java broker answers it with an error: what counts is an answer.
		if size == 0 && strings.HasPrefix(err.Error(), "CODE: ") {
			return nil
		}
		return err
	}
	got, err := s.one(key)
	if err != nil {
		return err
	}
	if !bytes.Equal(got.Body, message.Body) {
		return fmt.Errorf("another body came back")
	}
	return nil
}

func (s *sender) tooLarge() error {
	message := primitive.NewMessage(s.topic, random(limit+1)).WithTag("size").WithKeys([]string{"body-over-4m"})
	_, err := s.producer.SendSync(context.Background(), message)
	if err == nil {
		return fmt.Errorf("the server took it")
	}
	if !strings.Contains(err.Error(), "CODE: 13") {
		return fmt.Errorf("refused otherwise: %w", err)
	}
	return nil
}
