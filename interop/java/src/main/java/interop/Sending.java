package interop;

import static interop.Scenarios.await;
import static interop.Scenarios.check;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.rocketmq.client.QueryResult;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** Every way to send, each checked on the receiving side by one consumer that collects the whole topic. */
final class Sending {
    private static final int LIMIT = 4 * 1024 * 1024;
    private static final int MESSAGE_ILLEGAL = 13;

    private final Clients clients;
    private final String topic;
    private final Map<String, List<MessageExt>> received = new ConcurrentHashMap<>();
    private DefaultMQProducer producer;

    Sending(Clients clients) {
        this.clients = clients;
        this.topic = clients.topic("send");
    }

    void run(Scenarios scenarios) {
        try {
            producer = clients.producer("send");
            DefaultMQPushConsumer collector = clients.consumer("collector");
            collector.subscribe(topic, "*");
            collector.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
                for (MessageExt message : messages) {
                    received.computeIfAbsent(message.getKeys(), key -> new CopyOnWriteArrayList<>()).add(message);
                }
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
            collector.start();
            scenarios.run("send-sync", this::sync);
            scenarios.run("send-async", this::async);
            scenarios.run("send-oneway", this::oneWay);
            scenarios.run("send-batch", this::batch);
            scenarios.run("chinese", this::chinese);
            scenarios.run("filter-tags", this::filterTags);
            scenarios.run("query-key", this::queryKey);
            scenarios.run("view-id", this::viewId);
            scenarios.run("auto-create", this::autoCreate);
            scenarios.run("body-0", this::empty);
            scenarios.run("body-1k", () -> body("body-1k", 1024));
            scenarios.run("body-4m-1", () -> body("body-4m-1", LIMIT - 1));
            scenarios.run("body-over-4m", this::tooLarge);
            collector.shutdown();
            producer.shutdown();
        } catch (Exception error) {
            scenarios.run("send", () -> {
                throw error;
            });
        }
    }

    private void sync() throws Exception {
        for (int i = 0; i < 20; i++) {
            SendResult result = producer.send(message("sync", i));
            check(result.getSendStatus() == SendStatus.SEND_OK, "status " + result.getSendStatus());
            check(result.getQueueOffset() >= 0, "queue offset " + result.getQueueOffset());
        }
        expect("sync", 20);
    }

    private void async() throws Exception {
        CountDownLatch answered = new CountDownLatch(20);
        AtomicReference<Throwable> failure = new AtomicReference<>();
        for (int i = 0; i < 20; i++) {
            producer.send(message("async", i), new SendCallback() {
                @Override
                public void onSuccess(SendResult result) {
                    answered.countDown();
                }

                @Override
                public void onException(Throwable error) {
                    failure.set(error);
                    answered.countDown();
                }
            });
        }
        check(answered.await(20, TimeUnit.SECONDS), "not all answered");
        check(failure.get() == null, "one failed: " + failure.get());
        expect("async", 20);
    }

    private void oneWay() throws Exception {
        for (int i = 0; i < 20; i++) {
            producer.sendOneway(message("oneway", i));
        }
        expect("oneway", 20);
    }

    private void batch() throws Exception {
        List<Message> messages = new ArrayList<>();
        for (int i = 0; i < 32; i++) {
            messages.add(message("batch", i));
        }
        SendResult result = producer.send(messages);
        check(result.getSendStatus() == SendStatus.SEND_OK, "status " + result.getSendStatus());
        check(result.getOffsetMsgId().split(",").length == 32, "ids of " + result.getOffsetMsgId().split(",").length + " messages");
        expect("batch", 32);
    }

    private void chinese() throws Exception {
        Message message = new Message(topic, "标签", "订单-中文键", "消息正文：你好，世界 🚀".getBytes(StandardCharsets.UTF_8));
        message.putUserProperty("地区", "北京市海淀区");
        producer.send(message);
        MessageExt got = one("订单-中文键");
        check("标签".equals(got.getTags()), "tag " + got.getTags());
        check("北京市海淀区".equals(got.getUserProperty("地区")), "property " + got.getUserProperty("地区"));
        check(Arrays.equals(message.getBody(), got.getBody()), "body " + new String(got.getBody(), StandardCharsets.UTF_8));
    }

    private void filterTags() throws Exception {
        String tagged = clients.topic("tags");
        String[] tags = {"red", "green", "blue", "中"};
        Set<String> want = new HashSet<>();
        for (int i = 0; i < 40; i++) {
            String key = "t-" + i;
            producer.send(new Message(tagged, tags[i % 4], key, key.getBytes(StandardCharsets.UTF_8)));
            if (i % 4 == 1 || i % 4 == 3) {
                want.add(key);
            }
        }
        Queue<String> got = new ConcurrentLinkedQueue<>();
        DefaultMQPushConsumer consumer = clients.consumer("tags");
        consumer.subscribe(tagged, "green || 中");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(message -> got.add(message.getKeys()));
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        await(40, "all of the subscribed tags", () -> got.size() >= want.size());
        check(new HashSet<>(got).equals(want) && got.size() == want.size(), "received " + got);
        consumer.shutdown();
    }

    private void queryKey() throws Exception {
        long begin = System.currentTimeMillis() - 60_000;
        SendResult sent = producer.send(message("query", 0));
        // The index is written behind the append.
        AtomicReference<QueryResult> found = new AtomicReference<>();
        await(20, "the key in the index", () -> {
            try {
                found.set(producer.queryMessage(topic, "query-0", 10, begin, System.currentTimeMillis() + 60_000));
                return true;
            } catch (MQClientException | InterruptedException absent) {
                return false;
            }
        });
        List<MessageExt> messages = found.get().getMessageList();
        check(messages.size() == 1, messages.size() + " messages with the key");
        check(messages.get(0).getKeys().equals("query-0"), "key " + messages.get(0).getKeys());
        check(messages.get(0).getMsgId().equals(sent.getMsgId()), "id " + messages.get(0).getMsgId());
    }

    private void viewId() throws Exception {
        SendResult sent = producer.send(message("view", 0));
        MessageExt byOffset = producer.viewMessage(topic, sent.getOffsetMsgId());
        check("view-0".equals(byOffset.getKeys()), "by offset id " + byOffset);
        await(20, "the unique id in the index", () -> {
            try {
                return "view-0".equals(producer.viewMessage(topic, sent.getMsgId()).getKeys());
            } catch (Exception absent) {
                return false;
            }
        });
    }

    private void autoCreate() throws Exception {
        String absent = clients.topic("auto");
        SendResult result = producer.send(new Message(absent, "created".getBytes(StandardCharsets.UTF_8)));
        check(result.getSendStatus() == SendStatus.SEND_OK, "status " + result.getSendStatus());
        await(20, "the route of the created topic", () -> {
            try {
                return producer.fetchPublishMessageQueues(absent).size() == 4;
            } catch (MQClientException unknown) {
                return false;
            }
        });
    }

    private void empty() throws Exception {
        try {
            producer.send(new Message(topic, "size", "body-0", new byte[0]));
        } catch (MQClientException refused) {
            throw new Scenarios.Skip("the client itself refuses an empty body: code " + refused.getResponseCode());
        }
        one("body-0");
    }

    private void body(String key, int bytes) throws Exception {
        Message message = new Message(topic, "size", key, random(bytes));
        producer.send(message);
        check(Arrays.equals(message.getBody(), one(key).getBody()), "another body came back");
    }

    private void tooLarge() throws Exception {
        try {
            producer.send(new Message(topic, "size", "body-over-4m", random(LIMIT + 1)));
            throw new AssertionError("the server took it");
        } catch (MQBrokerException refused) {
            check(refused.getResponseCode() == MESSAGE_ILLEGAL, "code " + refused.getResponseCode());
        }
    }

    private static byte[] random(int bytes) {
        byte[] body = new byte[bytes];
        new Random(bytes).nextBytes(body);
        return body;
    }

    private Message message(String kind, int i) {
        Message message = new Message(topic, kind, kind + "-" + i, (kind + " body " + i).getBytes(StandardCharsets.UTF_8));
        message.putUserProperty("number", String.valueOf(i));
        return message;
    }

    private void expect(String kind, int count) throws Exception {
        for (int i = 0; i < count; i++) {
            MessageExt got = one(kind + "-" + i);
            check((kind + " body " + i).equals(new String(got.getBody(), StandardCharsets.UTF_8)), "body of " + got);
            check(kind.equals(got.getTags()), "tag of " + got);
            check(String.valueOf(i).equals(got.getUserProperty("number")), "property of " + got);
        }
    }

    private MessageExt one(String key) throws Exception {
        await(30, "message " + key, () -> !received.getOrDefault(key, Collections.emptyList()).isEmpty());
        List<MessageExt> got = received.get(key);
        check(got.size() == 1, key + " came " + got.size() + " times");
        return got.get(0);
    }
}
