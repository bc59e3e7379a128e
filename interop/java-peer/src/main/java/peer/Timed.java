package peer;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentSkipListMap;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageAccessor;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * Arguments: name server, topic, the most that a message may be late in milliseconds. Timer messages as the official client sends them: named in three ways, over, taken back by
 * handle and by key, too far ahead. The server's timerMaxDelaySec is 3600.
 */
public final class Timed {
    private static final String DELETES = "TIMER_DEL_UNIQKEY";

    public static void main(String[] args) {
        Run.main(() -> timed(args[0], args[1], Long.parseLong(args[2])));
    }

    private static void timed(String nameServer, String topic, long lateMax) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer("timed_producer");
        producer.setNamesrvAddr(nameServer);
        producer.setSendMsgTimeout(20_000);
        producer.start();
        Run.queues(producer, topic);
        Map<String, Long> due = new TreeMap<>();
        for (int i = 0; i < 20; i++) {
            long now = System.currentTimeMillis();
            Message at = message(topic, "at " + i);
            at.setDeliverTimeMs(now + 1_000 + 137 * i);
            due.put("at " + i, now + 1_000 + 137 * i);
            producer.send(at);
            Message after = message(topic, "after " + i);
            after.setDelayTimeMs(900 + 71 * i);
            due.put("after " + i, System.currentTimeMillis() + 900 + 71 * i);
            producer.send(after);
        }
        Message seconds = message(topic, "seconds");
        seconds.setDelayTimeSec(2);
        due.put("seconds", System.currentTimeMillis() + 2_000);
        check(producer.send(seconds).getRecallHandle() != null, "no recall handle");
        Message over = message(topic, "over");
        over.setDeliverTimeMs(System.currentTimeMillis() - 1_000);
        due.put("over", 0L);
        check(producer.send(over).getRecallHandle() == null, "a recall handle of what is delivered");

        Message recalled = message(topic, "recalled");
        recalled.setDelayTimeMs(4_000);
        SendResult sent = producer.send(recalled);
        check(producer.recallMessage(topic, sent.getRecallHandle()).equals(sent.getMsgId()), "another message was recalled");
        long at = System.currentTimeMillis() + 4_000;
        Message deleted = message(topic, "deleted");
        deleted.setDeliverTimeMs(at);
        SendResult kept = producer.send(deleted);
        Message order = message(topic, "order");
        order.setDeliverTimeMs(at);
        MessageAccessor.putProperty(order, DELETES, topic + "+" + kept.getMsgId());
        producer.send(order);

        refused(13, () -> {
            Message far = message(topic, "far");
            far.setDelayTimeSec(7_200);
            producer.send(far);
        });
        refused(13, () -> {
            Message late = message(topic, "late order");
            late.setDeliverTimeMs(System.currentTimeMillis() - 1);
            MessageAccessor.putProperty(late, DELETES, topic + "+nobody");
            producer.send(late);
        });
        // The last of all says that neither of the two came.
        Message last = message(topic, "last");
        last.setDelayTimeMs(6_000);
        due.put("last", System.currentTimeMillis() + 6_000);
        SendResult lastSent = producer.send(last);

        Map<String, MessageExt> seen = new ConcurrentSkipListMap<>();
        List<String> twice = Collections.synchronizedList(new ArrayList<>());
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer("timed_consumer");
        consumer.setNamesrvAddr(nameServer);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            for (MessageExt message : messages) {
                String body = new String(message.getBody(), StandardCharsets.UTF_8);
                if (seen.put(body, message) != null) {
                    twice.add(body);
                }
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        Run.await("the last message", () -> seen.containsKey("last") && seen.size() >= due.size());
        check(seen.keySet().equals(due.keySet()), "seen " + seen.keySet());
        check(twice.isEmpty(), "twice " + twice);
        long latest = 0;
        for (Map.Entry<String, Long> each : due.entrySet()) {
            MessageExt message = seen.get(each.getKey());
            if (each.getValue() == 0) {
                continue;
            }
            // A delay counts from when the broker takes the message, a little after this program asked.
            long late = message.getStoreTimestamp() - each.getValue();
            check(late >= 0, each.getKey() + " came " + -late + " ms early");
            latest = Math.max(latest, late);
            check(message.getProperty("TIMER_OUT_MS") != null, each.getKey() + " has no TIMER_OUT_MS");
            // A Java server leaves it in.
            String real = message.getProperty("REAL_TOPIC");
            check(real == null || real.equals(topic), each.getKey() + " has the REAL_TOPIC " + real);
        }
        check(latest <= lateMax, "at most " + latest + " ms late");
        refused(604, () -> producer.recallMessage(topic, lastSent.getRecallHandle()));
        consumer.shutdown();
        producer.shutdown();
        System.out.println("at most " + latest + " ms late");
    }

    private interface Call {
        void run() throws Exception;
    }

    private static void refused(int code, Call call) throws Exception {
        try {
            call.run();
        } catch (MQBrokerException refused) {
            check(refused.getResponseCode() == code, "code " + refused.getResponseCode() + " where " + code + " belongs");
            return;
        } catch (MQClientException refused) {
            check(refused.getResponseCode() == code, "code " + refused.getResponseCode() + " where " + code + " belongs");
            return;
        }
        throw new AssertionError("accepted, where code " + code + " belongs");
    }

    private static void check(boolean condition, String otherwise) {
        if (!condition) {
            throw new AssertionError(otherwise);
        }
    }

    private static Message message(String topic, String body) {
        return new Message(topic, "t", "key " + body, body.getBytes(StandardCharsets.UTF_8));
    }
}
