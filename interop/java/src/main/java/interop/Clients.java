package interop;

import java.lang.reflect.Method;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.ClientConfig;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageQueue;

/** Makes producers and consumers, each with an instance name of its own. */
final class Clients {
    /** For routes and heartbeats, in milliseconds. A machine of two cores on which five clients start at once needs more than the usual three seconds. */
    static final int API_TIMEOUT = 15_000;

    final String nameServer;
    final String prefix;
    private final AtomicInteger instance = new AtomicInteger();

    Clients(String nameServer, String prefix) {
        this.nameServer = nameServer;
        this.prefix = prefix;
    }

    String topic(String name) {
        return prefix + "_" + name;
    }

    String group(String name) {
        return "g_" + prefix + "_" + name;
    }

    /**
     * A name that no other client has, of this process or of another: servers know a client by its host and name, and forget it when one of
     * that name goes.
     */
    String nextInstance() {
        return prefix + "_i" + instance.incrementAndGet();
    }

    /** A started producer that never compresses and lets bodies over the server's limit through. */
    DefaultMQProducer producer(String name) throws Exception {
        return producer(name, new ClientConfig().getHeartbeatBrokerInterval());
    }

    /** The same, with the time between its heartbeats in milliseconds. */
    DefaultMQProducer producer(String name, int heartbeatMs) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer(group("p_" + name));
        producer.setNamesrvAddr(nameServer);
        producer.setMqClientApiTimeout(API_TIMEOUT);
        producer.setInstanceName(nextInstance());
        producer.setHeartbeatBrokerInterval(heartbeatMs);
        producer.setCompressMsgBodyOverHowmuch(Integer.MAX_VALUE);
        producer.setMaxMessageSize(16 * 1024 * 1024);
        producer.setSendMsgTimeout(10_000);
        producer.start();
        return producer;
    }

    /**
     * The queue of a topic that has one. A client that asks for a route at a bad moment takes the topic for one that does not exist and sends to queues of the template topic;
     * who names the queue does not.
     */
    static MessageQueue queue(DefaultMQProducer producer, String topic) throws InterruptedException {
        List<MessageQueue> queues = new ArrayList<>();
        Scenarios.await(30, "the route of " + topic, () -> {
            try {
                queues.addAll(producer.fetchPublishMessageQueues(topic));
            } catch (MQClientException notYet) {
                return false;
            }
            return true;
        });
        Scenarios.check(queues.size() == 1, "queues " + queues);
        return queues.get(0);
    }

    /** A consumer that begins at the first message; the caller subscribes, registers its listener and starts it. */
    DefaultMQPushConsumer consumer(String name) {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(group(name));
        consumer.setNamesrvAddr(nameServer);
        consumer.setMqClientApiTimeout(API_TIMEOUT);
        consumer.setInstanceName(nextInstance());
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        // A rebalance changes the subscription's version and sends a heartbeat with it, which the client drops when another heartbeat is under way.
        // Every server then answers pulls with "subscription not latest" until the next one.
        consumer.setHeartbeatBrokerInterval(3_000);
        consumer.setConsumeThreadMin(4);
        consumer.setConsumeThreadMax(4);
        return consumer;
    }

    /** The enum MessageModel lies in another package in 5.x than in 4.x; the method's parameter tells which. */
    @SuppressWarnings({"unchecked", "rawtypes"})
    static void broadcasting(DefaultMQPushConsumer consumer) throws Exception {
        for (Method method : DefaultMQPushConsumer.class.getMethods()) {
            if (method.getName().equals("setMessageModel")) {
                Class type = method.getParameterTypes()[0];
                method.invoke(consumer, Enum.valueOf(type, "BROADCASTING"));
            }
        }
    }
}
