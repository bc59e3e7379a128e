package interop;

import static interop.Scenarios.await;
import static interop.Scenarios.check;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Push consumers whose groups grow and shrink, broadcasting, pulling. */
final class Consuming {
    private static final int WAVE = 200;

    private final Clients clients;

    Consuming(Clients clients) {
        this.clients = clients;
    }

    /** What one instance has received: message numbers, and the last number of each queue. */
    private static final class Seen {
        final Set<Integer> numbers = ConcurrentHashMap.newKeySet();
        final Map<Integer, Integer> lastOfQueue = new ConcurrentHashMap<>();
        final AtomicReference<String> disorder = new AtomicReference<>();

        void add(List<MessageExt> messages) {
            for (MessageExt message : messages) {
                int number = Integer.parseInt(new String(message.getBody(), StandardCharsets.UTF_8));
                Integer last = lastOfQueue.put(message.getQueueId(), number);
                // A queue handed from one instance to the other may begin again at the last committed offset, but an
                // instance that owns it sees it in order.
                if (last != null && last >= number) {
                    disorder.set("queue " + message.getQueueId() + ": " + number + " after " + last);
                }
                numbers.add(number);
            }
        }

        boolean sawAny(int from, int to) {
            return numbers.stream().anyMatch(number -> number >= from && number < to);
        }

        boolean sawAll(int from, int to) {
            return numbers.stream().filter(number -> number >= from && number < to).count() == to - from;
        }
    }

    void concurrent() throws Exception {
        rebalance("concurrent", false);
    }

    void orderly() throws Exception {
        rebalance("orderly", true);
    }

    /** One instance takes a first wave, two share a second, the remaining one takes a third. */
    private void rebalance(String name, boolean orderly) throws Exception {
        String topic = clients.topic(name);
        DefaultMQProducer producer = clients.producer(name);
        Seen first = new Seen();
        Seen second = new Seen();
        DefaultMQPushConsumer one = start(name, topic, orderly, first);
        wave(producer, topic, 0);
        await(30, "the first wave at one instance", () -> first.sawAll(0, WAVE));

        DefaultMQPushConsumer two = start(name, topic, orderly, second);
        // The queues change hands some time after the second instance's first heartbeat: send until both receive.
        int from = WAVE;
        long deadline = System.nanoTime() + 45_000_000_000L;
        while (true) {
            int wave = from;
            wave(producer, topic, wave);
            await(30, "a wave at two instances", () -> union(first, second, wave, wave + WAVE));
            from += WAVE;
            if (second.sawAny(wave, wave + WAVE) && first.sawAny(wave, wave + WAVE)) {
                break;
            }
            check(System.nanoTime() < deadline, "the queues were never shared");
            Thread.sleep(200);
        }

        one.shutdown();
        int last = from;
        wave(producer, topic, last);
        await(45, "the last wave at the remaining instance", () -> union(first, second, last, last + WAVE) && second.lastOfQueue.size() == 4);
        if (orderly) {
            check(first.disorder.get() == null, "first instance: " + first.disorder.get());
            check(second.disorder.get() == null, "second instance: " + second.disorder.get());
        }
        two.shutdown();
        producer.shutdown();
    }

    private static boolean union(Seen one, Seen two, int from, int to) {
        for (int number = from; number < to; number++) {
            if (!one.numbers.contains(number) && !two.numbers.contains(number)) {
                return false;
            }
        }
        return true;
    }

    private DefaultMQPushConsumer start(String name, String topic, boolean orderly, Seen seen) throws Exception {
        DefaultMQPushConsumer consumer = clients.consumer(name);
        consumer.subscribe(topic, "*");
        if (orderly) {
            consumer.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
                seen.add(messages);
                return ConsumeOrderlyStatus.SUCCESS;
            });
        } else {
            consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
                seen.add(messages);
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
        }
        consumer.start();
        return consumer;
    }

    private static void wave(DefaultMQProducer producer, String topic, int from) throws Exception {
        for (int number = from; number < from + WAVE; number++) {
            Message message = new Message(topic, String.valueOf(number).getBytes(StandardCharsets.UTF_8));
            producer.send(message, (queues, sent, argument) -> queues.get((Integer) argument % queues.size()), number);
        }
    }

    void broadcast() throws Exception {
        String topic = clients.topic("broadcast");
        DefaultMQProducer producer = clients.producer("broadcast");
        wave(producer, topic, 0);
        List<Seen> all = new ArrayList<>();
        List<DefaultMQPushConsumer> consumers = new ArrayList<>();
        for (int i = 0; i < 2; i++) {
            Seen seen = new Seen();
            DefaultMQPushConsumer consumer = clients.consumer("broadcast");
            Clients.broadcasting(consumer);
            consumer.subscribe(topic, "*");
            consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
                seen.add(messages);
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
            consumer.start();
            all.add(seen);
            consumers.add(consumer);
        }
        wave(producer, topic, WAVE);
        for (Seen seen : all) {
            await(30, "every message at every instance", () -> seen.sawAll(0, 2 * WAVE));
        }
        consumers.forEach(DefaultMQPushConsumer::shutdown);
        producer.shutdown();
    }

    @SuppressWarnings("deprecation")
    void pull() throws Exception {
        String topic = clients.topic("pull");
        DefaultMQProducer producer = clients.producer("pull");
        wave(producer, topic, 0);
        DefaultMQPullConsumer consumer = new DefaultMQPullConsumer(clients.group("pull"));
        consumer.setNamesrvAddr(clients.nameServer);
        consumer.setMqClientApiTimeout(Clients.API_TIMEOUT);
        consumer.setInstanceName(clients.prefix + "_pull");
        consumer.start();
        Set<Integer> numbers = new HashSet<>();
        for (MessageQueue queue : consumer.fetchSubscribeMessageQueues(topic)) {
            long max = consumer.maxOffset(queue);
            long offset = consumer.minOffset(queue);
            check(consumer.searchOffset(queue, 0) == offset, "the offset of the beginning of time");
            check(consumer.earliestMsgStoreTime(queue) > 0, "the earliest store time");
            while (offset < max) {
                PullResult result = consumer.pull(queue, "*", offset, 32);
                check(result.getPullStatus() == PullStatus.FOUND, "status " + result.getPullStatus());
                for (MessageExt message : result.getMsgFoundList()) {
                    check(message.getQueueOffset() == offset, "offset " + message.getQueueOffset() + " at " + offset);
                    offset++;
                    numbers.add(Integer.parseInt(new String(message.getBody(), StandardCharsets.UTF_8)));
                }
                check(result.getNextBeginOffset() == offset, "next " + result.getNextBeginOffset() + " at " + offset);
            }
            PullResult end = consumer.pull(queue, "*", max, 32);
            check(end.getPullStatus() == PullStatus.NO_NEW_MSG, "at the end: " + end.getPullStatus());
            PullResult beyond = consumer.pull(queue, "*", max + 1000, 32);
            check(beyond.getPullStatus() == PullStatus.OFFSET_ILLEGAL && beyond.getNextBeginOffset() == max, "beyond the end: " + beyond);
            consumer.updateConsumeOffset(queue, max);
            consumer.getDefaultMQPullConsumerImpl().getOffsetStore().persist(queue);
            // The commit is one-way.
            await(10, "the commit of offset " + max, () -> {
                try {
                    return consumer.fetchConsumeOffset(queue, true) == max;
                } catch (Exception error) {
                    return false;
                }
            });
        }
        check(numbers.size() == WAVE, "pulled " + numbers.size());
        consumer.shutdown();
        producer.shutdown();
    }

    void litePull() throws Exception {
        DefaultLitePullConsumer consumer = new DefaultLitePullConsumer(clients.group("litepull"));
        consumer.setNamesrvAddr(clients.nameServer);
        consumer.setMqClientApiTimeout(Clients.API_TIMEOUT);
        consumer.setInstanceName(clients.prefix + "_litepull");
        consumer.setConsumeFromWhere(org.apache.rocketmq.common.consumer.ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(clients.topic("pull"), "*");
        consumer.start();
        Set<Integer> numbers = new HashSet<>();
        await(30, "every message by lite pull", () -> {
            for (MessageExt message : consumer.poll(500)) {
                numbers.add(Integer.parseInt(new String(message.getBody(), StandardCharsets.UTF_8)));
            }
            return numbers.size() == WAVE;
        });
        consumer.shutdown();
    }
}
