package interop;

import static interop.Scenarios.await;
import static interop.Scenarios.check;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Many messages: in order per queue, none lost, none twice. */
final class Counting {
    private static final int BATCH = 50;

    private final Clients clients;
    private final int count;
    private final BitSet seen = new BitSet();
    private final Map<Integer, Long> nextOffset = new HashMap<>();
    private final Map<Integer, Integer> lastNumber = new HashMap<>();
    private final AtomicInteger received = new AtomicInteger();
    private String problem;

    Counting(Clients clients, int count) {
        this.clients = clients;
        this.count = count;
    }

    void run() throws Exception {
        String topic = clients.topic("count");
        DefaultMQPushConsumer consumer = clients.consumer("count");
        consumer.subscribe(topic, "*");
        consumer.setPullBatchSize(32);
        consumer.setConsumeMessageBatchMaxSize(32);
        consumer.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
            messages.forEach(this::take);
            return ConsumeOrderlyStatus.SUCCESS;
        });
        consumer.start();
        DefaultMQProducer producer = clients.producer("count");
        List<MessageQueue> queues = producer.fetchPublishMessageQueues(topic);
        List<Thread> senders = new ArrayList<>();
        AtomicInteger failures = new AtomicInteger();
        for (int s = 0; s < queues.size(); s++) {
            int sender = s;
            senders.add(new Thread(() -> {
                try {
                    send(producer, topic, queues.get(sender), sender, queues.size());
                } catch (Exception error) {
                    error.printStackTrace();
                    failures.incrementAndGet();
                }
            }));
        }
        senders.forEach(Thread::start);
        for (Thread sender : senders) {
            sender.join();
        }
        check(failures.get() == 0, failures + " senders failed");
        await(90, count + " messages", () -> received.get() >= count || problem != null);
        synchronized (this) {
            check(problem == null, problem);
            check(seen.cardinality() == count && received.get() == count, "received " + received + ", distinct " + seen.cardinality());
        }
        consumer.shutdown();
        producer.shutdown();
    }

    /** Numbers sender, sender + senders, … into one queue: single sends first, then batches. */
    private void send(DefaultMQProducer producer, String topic, MessageQueue queue, int sender, int senders) throws Exception {
        int single = count / 10;
        List<Message> batch = new ArrayList<>();
        for (int number = sender; number < count; number += senders) {
            Message message = new Message(topic, "count", "k" + number, String.valueOf(number).getBytes(StandardCharsets.UTF_8));
            if (number < single) {
                producer.send(message, queue);
                continue;
            }
            batch.add(message);
            if (batch.size() == BATCH) {
                producer.send(batch, queue);
                batch = new ArrayList<>();
            }
        }
        if (!batch.isEmpty()) {
            producer.send(batch, queue);
        }
    }

    private synchronized void take(MessageExt message) {
        int number = Integer.parseInt(new String(message.getBody(), StandardCharsets.UTF_8));
        int queue = message.getQueueId();
        Long expected = nextOffset.put(queue, message.getQueueOffset() + 1);
        Integer last = lastNumber.put(queue, number);
        if (expected != null && expected != message.getQueueOffset()) {
            problem = "queue " + queue + ": offset " + message.getQueueOffset() + " where " + expected + " was due";
        } else if (last != null && last >= number) {
            problem = "queue " + queue + ": number " + number + " after " + last;
        } else if (seen.get(number)) {
            problem = "number " + number + " twice";
        }
        seen.set(number);
        received.incrementAndGet();
    }
}
