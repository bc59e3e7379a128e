package interop;

import static interop.Scenarios.await;
import static interop.Scenarios.check;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageAccessor;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * What waits in a broker when it stops and another one goes on with its directory: messages that were popped and not acknowledged, timer messages, and those with a delay
 * level, whose first is as long as {@link #DELAY_MS}. The group of the popped ones pops since the first broker was told so.
 */
final class Pending {
    private static final int COUNT = 20;
    /** Longer than a server takes to stop and the other to start. */
    private static final int DELAY_MS = 30_000;
    /** The shortest that the client takes is five seconds. */
    private static final long INVISIBLE_MS = 10_000;

    private final Clients clients;
    private final String popped;
    private final String timed;

    Pending(Clients clients) {
        this.clients = clients;
        this.popped = clients.topic("pending_pops");
        this.timed = clients.topic("pending_timers");
    }

    /** Leaves all that. Who is popping is not shut down: it dies with this process. */
    void leave(Scenarios scenarios) {
        scenarios.run("leave-pops", this::leavePops);
        scenarios.run("leave-timers", this::leaveTimers);
    }

    /** Gets all that on a broker that started at this time, in milliseconds since 1970. */
    void find(Scenarios scenarios, long startedMs) throws Exception {
        scenarios.runTogether(Arrays.asList(
            () -> scenarios.run("find-pops", this::findPops),
            () -> scenarios.run("find-timers", () -> findTimers(startedMs))));
    }

    private void leavePops() throws Exception {
        DefaultMQProducer producer = clients.producer("pending");
        MessageQueue queue = Clients.queue(producer, popped);
        for (int i = 0; i < COUNT; i++) {
            producer.send(new Message(popped, String.valueOf(i).getBytes(StandardCharsets.UTF_8)), queue);
        }
        producer.shutdown();
        CountDownLatch never = new CountDownLatch(1);
        Set<Integer> seen = ConcurrentHashMap.newKeySet();
        DefaultMQPushConsumer consumer = popping();
        consumer.setConsumeThreadMax(COUNT);
        consumer.setConsumeThreadMin(COUNT);
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            int number = Integer.parseInt(text(messages.get(0)));
            seen.add(number);
            if (isHeld(number)) {
                try {
                    never.await();
                } catch (InterruptedException interrupted) {
                    Thread.currentThread().interrupt();
                }
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        await(60, "every message", () -> seen.size() == COUNT);
    }

    private static boolean isHeld(int number) {
        return number % 2 == 1;
    }

    /** What was held comes once; of what was acknowledged nothing is said here: behind a held message it may come again. */
    private void findPops() throws Exception {
        Map<Integer, Integer> seen = new ConcurrentHashMap<>();
        List<MessageExt> strange = new CopyOnWriteArrayList<>();
        DefaultMQPushConsumer consumer = popping();
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            for (MessageExt message : messages) {
                if (!popped.equals(message.getTopic())) {
                    strange.add(message);
                }
                seen.merge(Integer.parseInt(text(message)), 1, Integer::sum);
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        await(90, "every message that was held", () -> seen.keySet().stream().filter(Pending::isHeld).count() == COUNT / 2);
        check(strange.isEmpty(), "of another topic: " + strange);
        check(seen.entrySet().stream().allMatch(each -> each.getValue() == 1), "times that each came: " + seen);
        System.out.println("NOTE of " + COUNT / 2 + " messages that were acknowledged " + (seen.size() - COUNT / 2) + " came again");
        consumer.shutdown();
    }

    private DefaultMQPushConsumer popping() throws Exception {
        DefaultMQPushConsumer consumer = clients.consumer("pending_pops");
        // Clients of 4.x, for which this compiles too, cannot pop.
        DefaultMQPushConsumer.class.getMethod("setClientRebalance", boolean.class).invoke(consumer, false);
        DefaultMQPushConsumer.class.getMethod("setPopInvisibleTime", long.class).invoke(consumer, INVISIBLE_MS);
        consumer.subscribe(popped, "*");
        return consumer;
    }

    private void leaveTimers() throws Exception {
        DefaultMQProducer producer = clients.producer("pending");
        MessageQueue queue = Clients.queue(producer, timed);
        for (int i = 0; i < COUNT; i++) {
            long due = System.currentTimeMillis() + DELAY_MS + 100 * i;
            Message message = new Message(timed, "timer", String.valueOf(due).getBytes(StandardCharsets.UTF_8));
            MessageAccessor.putProperty(message, "TIMER_DELIVER_MS", String.valueOf(due));
            producer.send(message, queue);
            Message delayed = new Message(timed, "level", String.valueOf(System.currentTimeMillis() + DELAY_MS).getBytes(StandardCharsets.UTF_8));
            delayed.setDelayTimeLevel(1);
            producer.send(delayed, queue);
        }
        producer.shutdown();
    }

    /** All come, once, none early, and some of each kind from this broker. */
    private void findTimers(long startedMs) throws Exception {
        List<MessageExt> seen = new CopyOnWriteArrayList<>();
        DefaultMQPushConsumer consumer = clients.consumer("pending_timers");
        consumer.subscribe(timed, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            seen.addAll(messages);
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        await(90, "every message that waited", () -> seen.size() >= 2 * COUNT);
        check(seen.stream().map(MessageExt::getQueueOffset).distinct().count() == seen.size(), "some were seen twice: " + seen);
        for (String kind : new String[] {"timer", "level"}) {
            check(seen.stream().filter(message -> kind.equals(message.getTags())).count() == COUNT, "not " + COUNT + " of " + kind + ": " + seen);
            long here = seen.stream().filter(message -> kind.equals(message.getTags()) && message.getStoreTimestamp() >= startedMs).count();
            check(here > 0, "the broker before delivered all of " + kind);
            System.out.println("NOTE " + kind + ": " + here + " of " + COUNT + " were delivered after the change");
        }
        for (MessageExt message : seen) {
            check(message.getStoreTimestamp() >= Long.parseLong(text(message)), "early: " + message);
        }
        consumer.shutdown();
    }

    private static String text(MessageExt message) {
        return new String(message.getBody(), StandardCharsets.UTF_8);
    }
}
