package interop;

import static interop.Scenarios.await;
import static interop.Scenarios.check;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Messages that come later, or again, or too often. The broker's first five delay levels last a second each. */
final class Redelivering {
    private static final int DELAYED = 20;

    private final Clients clients;

    Redelivering(Clients clients) {
        this.clients = clients;
    }

    /** Delayed messages come in the order they were sent, none early. */
    void delayed() throws Exception {
        String topic = clients.topic("delayed");
        DefaultMQProducer producer = clients.producer("delayed");
        MessageQueue queue = Clients.queue(producer, topic);
        producer.send(message(topic, "plain"), queue);
        for (int i = 0; i < DELAYED; i++) {
            Message message = message(topic, "delayed " + i);
            message.setDelayTimeLevel(1);
            producer.send(message, queue);
        }
        List<MessageExt> seen = new CopyOnWriteArrayList<>();
        DefaultMQPushConsumer consumer = clients.consumer("delayed");
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            seen.addAll(messages);
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        await(30, "every delayed message", () -> seen.size() >= DELAYED + 1);
        List<MessageExt> inOrder = new ArrayList<>(seen);
        inOrder.sort((one, two) -> Long.compare(one.getQueueOffset(), two.getQueueOffset()));
        check(text(inOrder.get(0)).equals("plain"), "first in the queue: " + text(inOrder.get(0)));
        for (int i = 0; i < DELAYED; i++) {
            MessageExt message = inOrder.get(i + 1);
            check(text(message).equals("delayed " + i), text(message) + " at place " + i);
            // The broker counts from when it stored the message, a little after it was born.
            long waited = message.getStoreTimestamp() - message.getBornTimestamp();
            check(waited >= 1000, text(message) + " came after " + waited + " ms");
            check(topic.equals(message.getProperty("REAL_TOPIC")), "REAL_TOPIC " + message.getProperty("REAL_TOPIC"));
            check("1".equals(message.getProperty("DELAY")), "DELAY " + message.getProperty("DELAY"));
        }
        consumer.shutdown();
        producer.shutdown();
    }

    /** A message that fails comes again by the level that the consumer names, then by the next in turn, then it is a dead letter. */
    void retried() throws Exception {
        String topic = clients.topic("retried");
        DefaultMQProducer producer = clients.producer("retried");
        MessageQueue queue = Clients.queue(producer, topic);
        producer.send(message(topic, "fails"), queue);
        producer.send(message(topic, "given up"), queue);
        List<String> seen = new CopyOnWriteArrayList<>();
        DefaultMQPushConsumer consumer = clients.consumer("retried");
        consumer.setMaxReconsumeTimes(2);
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            MessageExt message = messages.get(0);
            seen.add(text(message) + " " + message.getTopic() + " " + message.getReconsumeTimes() + " " + message.getProperty("DELAY"));
            if (text(message).equals("given up")) {
                context.setDelayLevelWhenNextConsume(-1);
            } else if (message.getReconsumeTimes() == 0) {
                context.setDelayLevelWhenNextConsume(1);
            }
            return ConsumeConcurrentlyStatus.RECONSUME_LATER;
        });
        consumer.start();
        List<MessageExt> dead = deadLetters(clients.group("retried"), 2);
        consumer.shutdown();
        producer.shutdown();
        List<String> sorted = new ArrayList<>(seen);
        Collections.sort(sorted);
        List<String> want = Arrays.asList(
            "fails " + topic + " 0 null", "fails " + topic + " 1 1", "fails " + topic + " 2 4", "given up " + topic + " 0 null");
        check(sorted.equals(want), "seen " + sorted);
        for (MessageExt letter : dead) {
            int times = text(letter).equals("fails") ? 3 : 1;
            check(letter.getReconsumeTimes() == times, text(letter) + " came back " + letter.getReconsumeTimes() + " times");
            check(topic.equals(letter.getProperty("RETRY_TOPIC")), "RETRY_TOPIC " + letter.getProperty("RETRY_TOPIC"));
            check(letter.getProperty("ORIGIN_MESSAGE_ID") != null, "no ORIGIN_MESSAGE_ID");
        }
    }

    /** An orderly queue stays at a message that fails until that is given up, and goes on behind it. */
    void suspended() throws Exception {
        String topic = clients.topic("suspended");
        DefaultMQProducer producer = clients.producer("suspended");
        MessageQueue queue = Clients.queue(producer, topic);
        producer.send(message(topic, "bad"), queue);
        producer.send(message(topic, "good"), queue);
        List<String> seen = new CopyOnWriteArrayList<>();
        DefaultMQPushConsumer consumer = clients.consumer("suspended");
        consumer.setMaxReconsumeTimes(1);
        consumer.setSuspendCurrentQueueTimeMillis(100);
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
            seen.add(text(messages.get(0)));
            return text(messages.get(0)).equals("bad") ? ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT : ConsumeOrderlyStatus.SUCCESS;
        });
        consumer.start();
        await(30, "the message behind", () -> seen.contains("good"));
        List<MessageExt> dead = deadLetters(clients.group("suspended"), 1);
        check(text(dead.get(0)).equals("bad"), "dead letter " + text(dead.get(0)));
        check(seen.equals(Arrays.asList("bad", "bad", "good")), "seen " + seen);
        consumer.shutdown();
        producer.shutdown();
    }

    @SuppressWarnings("deprecation")
    private List<MessageExt> deadLetters(String group, int count) throws Exception {
        DefaultMQPullConsumer consumer = new DefaultMQPullConsumer(group + "_dead");
        consumer.setNamesrvAddr(clients.nameServer);
        consumer.setMqClientApiTimeout(Clients.API_TIMEOUT);
        consumer.setInstanceName(group + "_dead");
        consumer.start();
        List<MessageExt> letters = new ArrayList<>();
        await(60, count + " dead letters of " + group, () -> {
            try {
                letters.clear();
                for (MessageQueue queue : consumer.fetchSubscribeMessageQueues("%DLQ%" + group)) {
                    List<MessageExt> found = consumer.pull(queue, "*", 0, 32).getMsgFoundList();
                    if (found != null) {
                        letters.addAll(found);
                    }
                }
                return letters.size() >= count;
            } catch (Exception notYet) {
                return false;
            }
        });
        consumer.shutdown();
        return letters;
    }

    private static Message message(String topic, String text) {
        return new Message(topic, text.getBytes(StandardCharsets.UTF_8));
    }

    private static String text(MessageExt message) {
        return new String(message.getBody(), StandardCharsets.UTF_8);
    }
}
