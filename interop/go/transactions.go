package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

const (
	transactions = 20
)

// listener says how local work ended, at once and when it is asked.
type listener struct {
	execute func(text string) primitive.LocalTransactionState
	check   func(message *primitive.MessageExt) primitive.LocalTransactionState
}

func (l *listener) ExecuteLocalTransaction(message *primitive.Message) primitive.LocalTransactionState {
	return l.execute(string(message.Body))
}

func (l *listener) CheckLocalTransaction(message *primitive.MessageExt) primitive.LocalTransactionState {
	return l.check(message)
}

func always(state primitive.LocalTransactionState) func(string) primitive.LocalTransactionState {
	return func(string) primitive.LocalTransactionState { return state }
}

func saying(state primitive.LocalTransactionState) func(*primitive.MessageExt) primitive.LocalTransactionState {
	return func(*primitive.MessageExt) primitive.LocalTransactionState { return state }
}

// collected counts the messages of the topic by their text.
type collected struct {
	mutex    sync.Mutex
	messages map[string][]*primitive.MessageExt
}

func (c *collected) of(text string) []*primitive.MessageExt {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.messages[text]
}

// transact: the broker checks what is older than a few seconds, every second, three times at most; the topic has one queue.
func transact(c *clients) {
	topic := c.topic("transactions")
	seen := &collected{messages: map[string][]*primitive.MessageExt{}}
	push, err := c.consumer("transactions")
	if err == nil {
		err = push.Subscribe(topic, consumer.MessageSelector{}, func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
			seen.mutex.Lock()
			defer seen.mutex.Unlock()
			for _, message := range messages {
				seen.messages[string(message.Body)] = append(seen.messages[string(message.Body)], message)
			}
			return consumer.ConsumeSuccess, nil
		})
	}
	if err == nil {
		err = push.Start()
	}
	if err != nil {
		run("tx-consumer", func() error { return err })
		return
	}
	var together sync.WaitGroup
	for name, scenario := range map[string]func(*clients, string, *collected) error{
		"tx-commit": txCommit, "tx-rollback": txRollback, "tx-check": txCheck, "tx-other-producer": txOther, "tx-limit": txLimit,
	} {
		together.Add(1)
		go func() {
			defer together.Done()
			run(name, func() error { return scenario(c, topic, seen) })
		}()
	}
	together.Wait()
	push.Shutdown()
}

func (c *clients) transactional(name string, l *listener) (rocketmq.TransactionProducer, error) {
	p, err := rocketmq.NewTransactionProducer(l,
		producer.WithNsResolver(primitive.NewPassthroughResolver([]string{c.nameServer})),
		producer.WithGroupName(c.group("tx_"+name)),
		producer.WithInstanceName(c.instance()),
		producer.WithRetry(2),
	)
	if err != nil {
		return nil, err
	}
	return p, p.Start()
}

func sendInTransaction(p rocketmq.TransactionProducer, topic, text string) error {
	_, err := p.SendMessageInTransaction(context.Background(), primitive.NewMessage(topic, []byte(text)))
	return err
}

func txCommit(c *clients, topic string, seen *collected) error {
	early := &notes{}
	p, err := c.transactional("commit", &listener{func(text string) primitive.LocalTransactionState {
		if len(seen.of(text)) > 0 {
			early.add(text)
		}
		return primitive.CommitMessageState
	}, saying(primitive.CommitMessageState)})
	if err != nil {
		return err
	}
	defer p.Shutdown()
	for number := 0; number < transactions; number++ {
		if err := sendInTransaction(p, topic, fmt.Sprint("commit ", number)); err != nil {
			return err
		}
	}
	for number := 0; number < transactions; number++ {
		text := fmt.Sprint("commit ", number)
		if err := await(30*time.Second, text, func() bool { return len(seen.of(text)) > 0 }); err != nil {
			return err
		}
		messages := seen.of(text)
		if len(messages) != 1 {
			return fmt.Errorf("%s came %d times", text, len(messages))
		}
		if topic != messages[0].GetProperty("REAL_TOPIC") || messages[0].GetProperty("PGROUP") != c.group("tx_commit") {
			return fmt.Errorf("%s has properties %v", text, messages[0].GetProperties())
		}
	}
	if texts := early.sorted(); len(texts) > 0 {
		return fmt.Errorf("seen before their commit: %v", texts)
	}
	return nil
}

func txRollback(c *clients, topic string, seen *collected) error {
	p, err := c.transactional("rollback", &listener{always(primitive.RollbackMessageState), saying(primitive.CommitMessageState)})
	if err != nil {
		return err
	}
	defer p.Shutdown()
	for number := 0; number < transactions; number++ {
		if err := sendInTransaction(p, topic, fmt.Sprint("rollback ", number)); err != nil {
			return err
		}
	}
	// Longer than a check would take that had not heard of the rollback.
	time.Sleep(8 * time.Second)
	for number := 0; number < transactions; number++ {
		if text := fmt.Sprint("rollback ", number); len(seen.of(text)) > 0 {
			return fmt.Errorf("%s was delivered", text)
		}
	}
	return nil
}

// txCheck: the producer does not know, is asked, does not know again, then knows.
func txCheck(c *clients, topic string, seen *collected) error {
	var mutex sync.Mutex
	asked := map[string]int{}
	p, err := c.transactional("check", &listener{always(primitive.UnknowState), func(message *primitive.MessageExt) primitive.LocalTransactionState {
		mutex.Lock()
		defer mutex.Unlock()
		text := string(message.Body)
		asked[text]++
		switch {
		case asked[text] < 2:
			return primitive.UnknowState
		case strings.HasSuffix(text, "yes"):
			return primitive.CommitMessageState
		default:
			return primitive.RollbackMessageState
		}
	}})
	if err != nil {
		return err
	}
	defer p.Shutdown()
	for _, text := range []string{"check 1 yes", "check 2 no", "check 3 yes"} {
		if err := sendInTransaction(p, topic, text); err != nil {
			return err
		}
	}
	if err := await(60*time.Second, "what a check commits", func() bool {
		mutex.Lock()
		defer mutex.Unlock()
		return len(seen.of("check 1 yes")) > 0 && len(seen.of("check 3 yes")) > 0 && asked["check 2 no"] >= 2
	}); err != nil {
		return err
	}
	time.Sleep(3 * time.Second)
	if len(seen.of("check 2 no")) > 0 {
		return fmt.Errorf("a check rolled it back, and it was delivered")
	}
	return nil
}

// txOther: the producer that sent is gone; another one of the group is asked.
func txOther(c *clients, topic string, seen *collected) error {
	gone, err := c.transactional("other", &listener{always(primitive.UnknowState), saying(primitive.RollbackMessageState)})
	if err != nil {
		return err
	}
	if err := sendInTransaction(gone, topic, "other left behind"); err != nil {
		return err
	}
	if err := gone.Shutdown(); err != nil {
		return err
	}
	other, err := c.transactional("other", &listener{always(primitive.CommitMessageState), saying(primitive.CommitMessageState)})
	if err != nil {
		return err
	}
	defer other.Shutdown()
	// A broker knows a producer that has sent something.
	if err := sendInTransaction(other, topic, "other its own"); err != nil {
		return err
	}
	return await(60*time.Second, "what was left behind", func() bool {
		return len(seen.of("other left behind")) > 0 && len(seen.of("other its own")) > 0
	})
}

// txLimit: nobody ever knows; the message is asked for so many times, and then kept for an operator.
func txLimit(c *clients, topic string, seen *collected) error {
	var mutex sync.Mutex
	asked := 0
	p, err := c.transactional("limit", &listener{always(primitive.UnknowState), func(*primitive.MessageExt) primitive.LocalTransactionState {
		mutex.Lock()
		defer mutex.Unlock()
		asked++
		return primitive.UnknowState
	}})
	if err != nil {
		return err
	}
	defer p.Shutdown()
	if err := sendInTransaction(p, topic, "limit"); err != nil {
		return err
	}
	if err := await(90*time.Second, "three checks", func() bool {
		mutex.Lock()
		defer mutex.Unlock()
		return asked >= 3
	}); err != nil {
		return err
	}
	// Longer than a fourth would take.
	time.Sleep(4 * time.Second)
	mutex.Lock()
	defer mutex.Unlock()
	if asked != 3 {
		return fmt.Errorf("asked %d times", asked)
	}
	if len(seen.of("limit")) > 0 {
		return fmt.Errorf("delivered all the same")
	}
	return nil
}
