package interop;

import static interop.Scenarios.await;
import static interop.Scenarios.check;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.store.ReadOffsetType;
import org.apache.rocketmq.client.impl.consumer.DefaultMQPushConsumerImpl;
import org.apache.rocketmq.client.impl.factory.MQClientInstance;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageAccessor;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * Light queues in steps, between which the broker may be killed or another one go on with its directory: each step begins where the groups of the step before ended.
 * The topic has one queue, and every message lies in the light queue {@code all}, so that its offsets there are those of its topic, which this client takes them for.
 * Those in {@code even} are others; pulls by number and pops go there.
 */
final class Light {
    private static final int COUNT = 100;
    private static final String BROKER = "broker-a";
    private static final String DISPATCH = "INNER_MULTI_DISPATCH";
    private static final String OFFSETS = "INNER_MULTI_QUEUE_OFFSET";

    private final Clients clients;
    private final int step;
    private final String topic;
    private final String all;
    private final String even;

    Light(Clients clients, int step) {
        this.clients = clients;
        this.step = step;
        this.topic = clients.topic("light");
        this.all = "%LMQ%" + clients.topic("all");
        this.even = "%LMQ%" + clients.topic("even");
    }

    void run(Scenarios scenarios) throws Exception {
        scenarios.run("light-send", this::send);
        List<Runnable> ways = new ArrayList<>();
        ways.add(() -> scenarios.run("light-pull", this::pull));
        ways.add(() -> scenarios.run("light-push", this::push));
        // Clients of 4.x cannot.
        if (Arrays.stream(DefaultMQPushConsumer.class.getMethods()).anyMatch(method -> method.getName().equals("setClientRebalance"))) {
            ways.add(() -> scenarios.run("light-pop", this::pop));
        }
        scenarios.runTogether(ways);
    }

    private void send() throws Exception {
        DefaultMQProducer producer = clients.producer("light");
        MessageQueue queue = Clients.queue(producer, topic);
        for (int number = step * COUNT; number < (step + 1) * COUNT; number++) {
            Message message = new Message(topic, "t", String.valueOf(number).getBytes(StandardCharsets.UTF_8));
            MessageAccessor.putProperty(message, DISPATCH, number % 2 == 0 ? all + "," + even : all);
            SendResult result = producer.send(message, queue);
            check(result.getSendStatus() == SendStatus.SEND_OK && result.getQueueOffset() == number, "sent " + result);
        }
        producer.shutdown();
    }

    /** A group with the name of a light queue and one without; both go on behind what they had in the step before. */
    private void pull() throws Exception {
        pullFrom(even, clients.group("light_pull"), COUNT / 2, 2);
        pullFrom(even, "%LMQ%" + clients.group("light_pull"), COUNT / 2, 2);
        pullFrom(all, "%LMQ%" + clients.group("light_pull"), COUNT, 1);
    }

    @SuppressWarnings("deprecation")
    private void pullFrom(String light, String group, int count, int apart) throws Exception {
        DefaultMQPullConsumer consumer = new DefaultMQPullConsumer(group);
        consumer.setNamesrvAddr(clients.nameServer);
        consumer.setMqClientApiTimeout(Clients.API_TIMEOUT);
        consumer.setInstanceName(clients.nextInstance());
        consumer.start();
        MessageQueue source = consumer.fetchSubscribeMessageQueues(topic).iterator().next();
        // The client learns the broker's address with this: no name server knows light queues.
        check(consumer.maxOffset(source) == (step + 1) * COUNT, "the end of " + source + " is " + consumer.maxOffset(source));
        MessageQueue queue = new MessageQueue(light, BROKER, 0);
        int begin = step * count;
        int end = begin + count;
        await(30, "the end of " + light, () -> {
            try {
                return consumer.maxOffset(queue) == end;
            } catch (Exception error) {
                throw new IllegalStateException(error);
            }
        });
        check(consumer.minOffset(queue) == 0, "min offset " + consumer.minOffset(queue));
        long committed = consumer.fetchConsumeOffset(queue, true);
        // A group that has never committed is somewhere before the first message.
        check(Math.max(committed, 0) == begin, light + " is at " + committed + " in " + group + ", " + begin + " belongs there");
        List<Integer> numbers = new ArrayList<>();
        for (long offset = begin; offset < end;) {
            PullResult result = consumer.pull(queue, "*", offset, 32);
            check(result.getPullStatus() == PullStatus.FOUND, "at " + offset + ": " + result);
            for (MessageExt message : result.getMsgFoundList()) {
                check(topic.equals(message.getTopic()), "topic " + message.getTopic());
                List<String> names = Arrays.asList(message.getProperty(DISPATCH).split(","));
                String[] offsets = message.getProperty(OFFSETS).split(",");
                check(Long.parseLong(offsets[names.indexOf(light)]) == offset, "offset " + offset + " of " + light + ": " + message.getProperties());
                numbers.add(number(message));
                offset++;
            }
            check(result.getNextBeginOffset() == offset, "next " + result.getNextBeginOffset() + " at " + offset);
        }
        for (int i = 0; i < count; i++) {
            check(numbers.get(i) == (begin + i) * apart, "number " + numbers.get(i) + " at " + (begin + i) + " of " + light);
        }
        consumer.updateConsumeOffset(queue, end);
        consumer.getDefaultMQPullConsumerImpl().getOffsetStore().persist(queue);
        // The commit is one-way.
        await(10, "the commit of offset " + end, () -> {
            try {
                return consumer.fetchConsumeOffset(queue, true) == end;
            } catch (Exception error) {
                return false;
            }
        });
        consumer.shutdown();
    }

    /** The group goes on behind what it had: nothing comes again. */
    private void push() throws Exception {
        String group = "%LMQ%" + clients.group("light_push");
        Map<Integer, Integer> seen = new ConcurrentHashMap<>();
        DefaultMQPushConsumer consumer = clients.consumer("light_push");
        consumer.setConsumerGroup(group);
        consumer.subscribe(all, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(message -> seen.merge(number(message), 1, Integer::sum));
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        introduce(consumer, all);
        DefaultMQPushConsumerImpl inner = consumer.getDefaultMQPushConsumerImpl();
        inner.updateTopicSubscribeInfo(all, Collections.singleton(new MessageQueue(all, BROKER, 0)));
        inner.getmQClientFactory().doRebalance();
        await(60, "every message", () -> seen.size() >= COUNT);
        for (int number = step * COUNT; number < (step + 1) * COUNT; number++) {
            check(Integer.valueOf(1).equals(seen.get(number)), number + " came " + seen.get(number) + " times");
        }
        check(seen.size() == COUNT, "seen " + seen.keySet());
        // The listener has seen the last message a moment before the client counts it as consumed, and the shutdown commits what is counted.
        MessageQueue queue = new MessageQueue(all, BROKER, 0);
        await(10, "the end of what is consumed", () -> inner.getOffsetStore().readOffset(queue, ReadOffsetType.READ_FROM_MEMORY) == (step + 1) * COUNT);
        consumer.shutdown();
    }

    /** Every message of this step comes, none twice. Of the steps before those may come again whose acknowledgement was not on the disk. */
    private void pop() throws Exception {
        List<Integer> seen = new CopyOnWriteArrayList<>();
        DefaultMQPushConsumer consumer = clients.consumer("light_pop");
        // This compiles for clients of 4.x too.
        DefaultMQPushConsumer.class.getMethod("setClientRebalance", boolean.class).invoke(consumer, false);
        consumer.subscribe(even, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            for (MessageExt message : messages) {
                check(message.getProperty("POP_CK") != null, "not popped: " + message);
                seen.add(number(message));
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        introduce(consumer, even);
        consumer.getDefaultMQPushConsumerImpl().getmQClientFactory().doRebalance();
        await(60, "every popped message", () -> seen.stream().filter(number -> number >= step * COUNT).distinct().count() == COUNT / 2);
        for (int number = step * COUNT; number < (step + 1) * COUNT; number += 2) {
            check(Collections.frequency(seen, number) == 1, number + " came " + Collections.frequency(seen, number) + " times");
        }
        consumer.shutdown();
    }

    /** Tells the client that the broker of the topic has the light queue. */
    @SuppressWarnings({"unchecked", "rawtypes"})
    private void introduce(DefaultMQPushConsumer consumer, String light) throws Exception {
        MQClientInstance instance = consumer.getDefaultMQPushConsumerImpl().getmQClientFactory();
        check(instance.updateTopicRouteInfoFromNameServer(topic), "no route of " + topic);
        // The class of a route lies in another package in 5.x than in 4.x.
        Map routes = instance.getTopicRouteTable();
        routes.put(light, routes.get(topic));
    }

    private static int number(MessageExt message) {
        return Integer.parseInt(new String(message.getBody(), StandardCharsets.UTF_8));
    }
}
