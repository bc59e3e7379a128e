package main

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
)

const delayed = 20

// notes are texts that several listeners add to.
type notes struct {
	mutex sync.Mutex
	texts []string
}

func (n *notes) add(text string) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	n.texts = append(n.texts, text)
}

func (n *notes) sorted() []string {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	texts := append([]string(nil), n.texts...)
	sort.Strings(texts)
	return texts
}

// delay: a message with a level comes after the second that the broker's first level lasts.
func delay(c *clients) error {
	topic := c.topic("delayed")
	p, err := c.producer("delayed", byNumber{})
	if err != nil {
		return err
	}
	defer p.Shutdown()
	for number := 0; number < delayed; number++ {
		message := primitive.NewMessage(topic, []byte(fmt.Sprint("delayed ", number)))
		message.WithDelayTimeLevel(1)
		if _, err := p.SendSync(context.Background(), message); err != nil {
			return err
		}
	}
	early := &notes{}
	came := &notes{}
	push, err := c.consumer("delayed")
	if err != nil {
		return err
	}
	if err := push.Subscribe(topic, consumer.MessageSelector{}, func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, message := range messages {
			if waited := message.StoreTimestamp - message.BornTimestamp; waited < 1000 {
				early.add(fmt.Sprintf("%s came after %d ms", message.Body, waited))
			}
			came.add(string(message.Body))
		}
		return consumer.ConsumeSuccess, nil
	}); err != nil {
		return err
	}
	if err := push.Start(); err != nil {
		return err
	}
	defer push.Shutdown()
	if err := await(60*time.Second, "every delayed message", func() bool { return len(came.sorted()) >= delayed }); err != nil {
		return err
	}
	if texts := early.sorted(); len(texts) > 0 {
		return fmt.Errorf("%s", strings.Join(texts, ", "))
	}
	return nil
}

// retry: a message that fails comes again, and is a dead letter after as many times as the consumer says.
func retry(c *clients) error {
	topic := c.topic("retried")
	p, err := c.producer("retried", byNumber{})
	if err != nil {
		return err
	}
	defer p.Shutdown()
	if _, err := p.SendSync(context.Background(), primitive.NewMessage(topic, []byte("fails"))); err != nil {
		return err
	}
	came := &notes{}
	push, err := c.consumer("retried", consumer.WithMaxReconsumeTimes(2))
	if err != nil {
		return err
	}
	if err := push.Subscribe(topic, consumer.MessageSelector{}, func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, message := range messages {
			came.add(fmt.Sprintf("%s %d", message.Body, message.ReconsumeTimes))
		}
		return consumer.ConsumeRetryLater, nil
	}); err != nil {
		return err
	}
	if err := push.Start(); err != nil {
		return err
	}
	defer push.Shutdown()
	if err := await(60*time.Second, "the last retry", func() bool { return len(came.sorted()) >= 3 }); err != nil {
		return err
	}
	// Long enough for one retry more than there may be: the levels last a second.
	time.Sleep(3 * time.Second)
	if texts := strings.Join(came.sorted(), ", "); texts != "fails 0, fails 1, fails 2" {
		return fmt.Errorf("seen %s", texts)
	}
	return nil
}
