package interop;

import static interop.Scenarios.await;
import static interop.Scenarios.check;

import java.lang.reflect.Method;
import java.nio.charset.StandardCharsets;
import java.util.Collections;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.store.ReadOffsetType;
import org.apache.rocketmq.client.impl.MQClientAPIImpl;
import org.apache.rocketmq.client.impl.factory.MQClientInstance;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageQueue;

/** Offsets that an operator moves while consumers run, and what consumers tell of themselves. */
final class Resetting {
    private static final int COUNT = 20;
    private static final long TIMEOUT = 10_000;

    private final Clients clients;

    Resetting(Clients clients) {
        this.clients = clients;
    }

    void run(Scenarios scenarios) throws Exception {
        String topic = clients.topic("reset");
        DefaultMQProducer producer = clients.producer("reset");
        Map<String, AtomicInteger> seen = new ConcurrentHashMap<>();
        DefaultMQPushConsumer consumer = start("reset", topic, seen);
        // The operator's connections are those of another consumer, so that they outlive this one.
        DefaultMQPushConsumer tool = start("reset_tool", topic, new ConcurrentHashMap<>());
        MQClientInstance instance = tool.getDefaultMQPushConsumerImpl().getmQClientFactory();
        MQClientAPIImpl api = instance.getMQClientAPIImpl();
        String[] ids = new String[COUNT];
        MessageQueue queue = Clients.queue(producer, topic);
        scenarios.run("reset-consume", () -> {
            for (int i = 0; i < COUNT; i++) {
                SendResult sent = producer.send(new Message(topic, String.valueOf(i).getBytes(StandardCharsets.UTF_8)), queue);
                ids[i] = sent.getOffsetMsgId();
            }
            await(30, "every message", () -> all(seen, 1));
            await(30, "the commit", () -> committed(consumer, queue) == COUNT);
        });
        String broker = instance.findBrokerAddressInPublish(queue.getBrokerName());
        String group = consumer.getConsumerGroup();
        String client = consumer.getDefaultMQPushConsumerImpl().getmQClientFactory().getClientId();

        scenarios.run("reset-status", () -> {
            Map<?, ?> told = api.invokeBrokerToGetConsumerStatus(broker, topic, group, client, TIMEOUT);
            check(told.keySet().equals(Collections.singleton(client)), "told by " + told.keySet());
            Map<?, ?> offsets = (Map<?, ?>) told.get(client);
            check(offsets.get(queue).equals((long) COUNT), "its offsets: " + offsets);
        });
        scenarios.run("reset-running-info", () -> {
            Object info = api.getConsumerRunningInfo(broker, group, client, true, TIMEOUT);
            String text = (String) call(info, "formatString");
            check(text.contains(topic) && text.contains("PROP_CONSUME_TYPE"), "the page: " + text);
            String jstack = (String) call(info, "getJstack");
            check(jstack != null && jstack.contains("ConsumeMessageThread_"), "the stacks: " + jstack);
            Object without = api.getConsumerRunningInfo(broker, group, client, false, TIMEOUT);
            check(call(without, "getJstack") == null, "stacks that nobody asked for");
        });
        scenarios.run("reset-direct", () -> {
            Object result = consumeDirectly(api, broker, group, client, topic, ids[3]);
            check(String.valueOf(call(result, "getConsumeResult")).equals("CR_SUCCESS"), "result " + result);
            check(seen.get("3").get() == 2 && seen.get("4").get() == 1, "seen " + seen);
            seen.get("3").decrementAndGet();
        });
        scenarios.run("reset-clone", () -> {
            api.cloneGroupOffset(broker, group, clients.group("reset_clone"), topic, false, TIMEOUT);
            Map<String, AtomicInteger> cloned = new ConcurrentHashMap<>();
            DefaultMQPushConsumer other = start("reset_clone", topic, cloned);
            producer.send(new Message(topic, "after".getBytes(StandardCharsets.UTF_8)), queue);
            await(30, "the message behind the offset that was taken over", () -> cloned.containsKey("after"));
            check(cloned.size() == 1, "seen " + cloned.keySet());
            other.shutdown();
        });
        // Whether the broker keeps the reset or tells the clients, they go back to the beginning and come to the end again.
        scenarios.run("reset-kept", () -> {
            setServerSide(api, broker, true);
            resetTo(api, broker, topic, group, 0, seen, 2);
        });
        scenarios.run("reset-told", () -> {
            setServerSide(api, broker, false);
            try {
                resetTo(api, broker, topic, group, 0, seen, 3);
            } finally {
                setServerSide(api, broker, true);
            }
        });
        scenarios.run("reset-to-the-end", () -> {
            await(30, "the commit", () -> committed(consumer, queue) == COUNT + 1);
            consumer.shutdown();
            for (int i = 0; i < COUNT; i++) {
                producer.send(new Message(topic, ("skipped " + i).getBytes(StandardCharsets.UTF_8)), queue);
            }
            // While another client has the broker tell consumers, there must be one.
            await(60, "the reset without a consumer", () -> {
                try {
                    setServerSide(api, broker, true);
                    return api.invokeBrokerToResetOffset(broker, topic, group, -1, true, TIMEOUT).get(queue).equals(2L * COUNT + 1);
                } catch (Exception refused) {
                    return false;
                }
            });
            Map<String, AtomicInteger> behind = new ConcurrentHashMap<>();
            DefaultMQPushConsumer again = start("reset", topic, behind);
            producer.send(new Message(topic, "last".getBytes(StandardCharsets.UTF_8)), queue);
            await(30, "the message behind the end", () -> behind.containsKey("last"));
            check(behind.size() == 1, "seen " + behind.keySet());
            again.shutdown();
        });
        tool.shutdown();
        producer.shutdown();
    }

    private static boolean all(Map<String, AtomicInteger> seen, int times) {
        for (int i = 0; i < COUNT; i++) {
            AtomicInteger count = seen.get(String.valueOf(i));
            if (count == null || count.get() < times) {
                return false;
            }
        }
        return true;
    }

    /** A client that hears of a reset waits ten seconds for its listeners. */
    private static void resetTo(MQClientAPIImpl api, String broker, String topic, String group, long time, Map<String, AtomicInteger> seen, int times)
        throws Exception {
        check(!all(seen, times), "it went back by itself: " + seen);
        Map<?, ?> offsets = api.invokeBrokerToResetOffset(broker, topic, group, time, true, TIMEOUT);
        check(new java.util.HashSet<>(offsets.values()).equals(Collections.singleton(0L)), "reset to " + offsets);
        await(60, "every message once more", () -> all(seen, times));
    }

    private static long committed(DefaultMQPushConsumer consumer, MessageQueue queue) {
        return consumer.getDefaultMQPushConsumerImpl().getOffsetStore().readOffset(queue, ReadOffsetType.READ_FROM_STORE);
    }

    /** Other clients may change it meanwhile: both ways end in the same. */
    private static void setServerSide(MQClientAPIImpl api, String broker, boolean server) throws Exception {
        Properties change = new Properties();
        change.setProperty("useServerSideResetOffset", String.valueOf(server));
        api.updateBrokerConfig(broker, change, TIMEOUT);
    }

    private static Object call(Object target, String method) throws Exception {
        return target.getClass().getMethod(method).invoke(target);
    }

    /** 5.x also says the topic. */
    private static Object consumeDirectly(MQClientAPIImpl api, String broker, String group, String client, String topic, String id) throws Exception {
        for (Method method : MQClientAPIImpl.class.getMethods()) {
            if (method.getName().equals("consumeMessageDirectly")) {
                return method.getParameterCount() == 6
                    ? method.invoke(api, broker, group, client, topic, id, TIMEOUT)
                    : method.invoke(api, broker, group, client, id, TIMEOUT);
            }
        }
        throw new Scenarios.Skip("this client has no such call");
    }

    private DefaultMQPushConsumer start(String name, String topic, Map<String, AtomicInteger> seen) throws Exception {
        DefaultMQPushConsumer consumer = clients.consumer(name);
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(message -> {
                String body = new String(message.getBody(), StandardCharsets.UTF_8);
                seen.computeIfAbsent(body, each -> new AtomicInteger()).incrementAndGet();
            });
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        return consumer;
    }
}
