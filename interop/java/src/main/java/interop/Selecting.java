package interop;

import static interop.Scenarios.await;
import static interop.Scenarios.check;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentSkipListSet;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.MessageSelector;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Consumers that select by SQL92. The server has enablePropertyFilter. */
final class Selecting {
    private static final int COUNT = 60;
    private static final int PARSE_FAILED = 23;

    private final Clients clients;

    Selecting(Clients clients) {
        this.clients = clients;
    }

    void run(Scenarios scenarios) throws Exception {
        String topic = clients.topic("selected");
        DefaultMQProducer producer = clients.producer("selected");
        send(producer, topic, 0);
        scenarios.run("select-push", () -> push(producer, topic));
        scenarios.run("select-pull", () -> pull(topic));
        scenarios.run("select-lite-pull", () -> litePull(topic));
        scenarios.run("select-refused", () -> refused(topic));
        producer.shutdown();
    }

    /** Messages with a price from {@code from} on, and every third of another colour. */
    private static void send(DefaultMQProducer producer, String topic, int from) throws Exception {
        for (int price = from; price < from + COUNT; price++) {
            Message message = new Message(topic, price % 2 == 0 ? "even" : "odd", String.valueOf(price).getBytes(StandardCharsets.UTF_8));
            message.putUserProperty("price", String.valueOf(price));
            message.putUserProperty("color", price % 3 == 0 ? "red" : "blue");
            producer.send(message);
        }
    }

    private static Set<Integer> prices(int from, int to) {
        Set<Integer> prices = new TreeSet<>();
        for (int price = from; price <= to; price++) {
            if (price % 3 == 0) {
                prices.add(price);
            }
        }
        return prices;
    }

    private void push(DefaultMQProducer producer, String topic) throws Exception {
        Set<Integer> seen = new ConcurrentSkipListSet<>();
        DefaultMQPushConsumer consumer = clients.consumer("selected");
        consumer.subscribe(topic, MessageSelector.bySql("price BETWEEN 10 AND 80 AND color IN ('red', 'green')"));
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(message -> seen.add(price(message)));
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        await(30, "what is there", () -> seen.equals(prices(10, COUNT - 1)));
        // The consumer waits; most of what comes is not for it.
        send(producer, topic, COUNT);
        await(30, "what came", () -> seen.size() >= prices(10, 80).size());
        check(seen.equals(prices(10, 80)), "seen " + seen);
        consumer.shutdown();
    }

    @SuppressWarnings("deprecation")
    private void pull(String topic) throws Exception {
        DefaultMQPullConsumer consumer = new DefaultMQPullConsumer(clients.group("selected_pull"));
        consumer.setNamesrvAddr(clients.nameServer);
        consumer.setMqClientApiTimeout(Clients.API_TIMEOUT);
        consumer.setInstanceName(clients.prefix + "_selected_pull");
        consumer.setHeartbeatBrokerInterval(1_000);
        consumer.start();
        Set<Integer> seen = new TreeSet<>();
        MessageQueue first = consumer.fetchSubscribeMessageQueues(topic).iterator().next();
        // Until a heartbeat was answered the client takes every broker for one of before 4.1, and does not ask it.
        await(30, "the first pull", () -> {
            try {
                return consumer.pull(first, MessageSelector.bySql("TRUE"), 0, 1) != null;
            } catch (Exception notYet) {
                return false;
            }
        });
        for (MessageQueue queue : consumer.fetchSubscribeMessageQueues(topic)) {
            long max = consumer.maxOffset(queue);
            long offset = 0;
            while (offset < max) {
                PullResult result = consumer.pull(queue, MessageSelector.bySql("NOT (color = 'blue') AND price <= 59 AND TAGS IS NOT NULL"), offset, 4);
                check(result.getNextBeginOffset() > offset, "stays at " + offset + ": " + result);
                offset = result.getNextBeginOffset();
                if (result.getMsgFoundList() != null) {
                    result.getMsgFoundList().forEach(message -> seen.add(price(message)));
                }
            }
        }
        check(seen.equals(prices(0, 59)), "seen " + seen);
        consumer.shutdown();
    }

    private void litePull(String topic) throws Exception {
        DefaultLitePullConsumer consumer = new DefaultLitePullConsumer(clients.group("selected_litepull"));
        consumer.setNamesrvAddr(clients.nameServer);
        consumer.setMqClientApiTimeout(Clients.API_TIMEOUT);
        consumer.setInstanceName(clients.prefix + "_selected_litepull");
        consumer.setConsumeFromWhere(org.apache.rocketmq.common.consumer.ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(topic, MessageSelector.bySql("color = 'red' AND price < 30"));
        consumer.start();
        Set<Integer> seen = new TreeSet<>();
        await(30, "every selected message by lite pull", () -> {
            consumer.poll(500).forEach(message -> seen.add(price(message)));
            return seen.size() >= prices(0, 29).size();
        });
        check(seen.equals(prices(0, 29)), "seen " + seen);
        consumer.shutdown();
    }

    /** A consumer whose expression cannot be read does not start. */
    private void refused(String topic) throws Exception {
        List<String> taken = new ArrayList<>();
        for (String expression : new String[] {"price >", "price BETWEEN 20 AND 10", "color IN (1)", "color = \"red\""}) {
            DefaultMQPushConsumer consumer = clients.consumer("selected_refused");
            consumer.subscribe(topic, MessageSelector.bySql(expression));
            consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> ConsumeConcurrentlyStatus.CONSUME_SUCCESS);
            try {
                consumer.start();
                taken.add(expression);
            } catch (MQClientException refused) {
                check(refused.getResponseCode() == PARSE_FAILED, expression + ": " + refused);
            }
            consumer.shutdown();
        }
        check(taken.isEmpty(), "taken: " + taken);
    }

    private static int price(MessageExt message) {
        return Integer.parseInt(new String(message.getBody(), StandardCharsets.UTF_8));
    }
}
