package peer;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.remoting.protocol.body.ClusterInfo;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/**
 * A topic with {@code queue.type=BatchCQ}. Arguments: name server, number of the step, {@code send} or {@code read}. Sends the step's batches if told so, then
 * consumes all of all steps so far, and prints what can be learnt of them: two servers on equal directories print the same.
 */
@SuppressWarnings("deprecation")
public final class Batches {
    private static final String TOPIC = "batches";
    private static final int QUEUES = 2;
    /** Batches of a step. */
    private static final int BATCHES = 40;

    public static void main(String[] args) {
        Run.main(() -> run(args[0], Integer.parseInt(args[1]), args[2].equals("send")));
    }

    private static int size(int step, int batch) {
        return 1 + (step * 7 + batch * 11) % 50;
    }

    private static void run(String nameServer, int step, boolean sends) throws Exception {
        if (sends) {
            send(nameServer, step);
        }
        int all = 0;
        for (int s = 0; s <= step; s++) {
            for (int batch = 0; batch < BATCHES; batch++) {
                all += size(s, batch);
            }
        }
        consume(nameServer, step, all);
        print(nameServer, all);
    }

    private static void send(String nameServer, int step) throws Exception {
        DefaultMQAdminExt admin = new DefaultMQAdminExt(20_000);
        admin.setNamesrvAddr(nameServer);
        admin.start();
        if (step == 0) {
            TopicConfig config = new TopicConfig(TOPIC, QUEUES, QUEUES, 6);
            config.setAttributes(Collections.singletonMap("+queue.type", "BatchCQ"));
            ClusterInfo cluster = admin.examineBrokerClusterInfo();
            String broker = cluster.getBrokerAddrTable().values().iterator().next().selectBrokerAddr();
            admin.createAndUpdateTopicConfig(broker, config);
        }
        DefaultMQProducer producer = new DefaultMQProducer("batches_producer");
        producer.setNamesrvAddr(nameServer);
        producer.setSendMsgTimeout(20_000);
        producer.start();
        List<MessageQueue> queues = Run.queues(producer, TOPIC);
        long[] next = new long[QUEUES];
        for (int i = 0; i < QUEUES; i++) {
            next[i] = producer.maxOffset(queues.get(i));
        }
        for (int batch = 0; batch < BATCHES; batch++) {
            List<Message> messages = new ArrayList<>();
            for (int i = 0; i < size(step, batch); i++) {
                Message message = new Message(TOPIC, "tag" + i % 3, "key" + i, (step + " " + batch + " " + i).getBytes());
                message.putUserProperty("number", String.valueOf(i));
                messages.add(message);
            }
            int queue = batch % QUEUES;
            SendResult result = producer.send(messages, queues.get(queue));
            check(result.getSendStatus() == SendStatus.SEND_OK && result.getQueueOffset() == next[queue], next[queue] + " is not what was told: " + result);
            check(result.getMsgId().indexOf(',') < 0, "a batch has one id: " + result.getMsgId());
            next[queue] += messages.size();
        }
        producer.shutdown();
        admin.shutdown();
    }

    /** A new group gets every message once. */
    private static void consume(String nameServer, int step, int all) throws Exception {
        Map<String, Integer> seen = new ConcurrentHashMap<>();
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer("batches_push_" + step + "_" + System.nanoTime());
        consumer.setNamesrvAddr(nameServer);
        consumer.setInstanceName("push");
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(TOPIC, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(message -> seen.merge(new String(message.getBody()), 1, Integer::sum));
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        Run.await("all of " + all + " messages", () -> seen.size() >= all);
        consumer.shutdown();
        check(seen.size() == all, seen.size() + " different messages instead of " + all);
        check(seen.values().stream().allMatch(times -> times == 1), "some came twice");
    }

    private static void print(String nameServer, int all) throws Exception {
        DefaultMQPullConsumer consumer = new DefaultMQPullConsumer("batches_pull");
        consumer.setNamesrvAddr(nameServer);
        consumer.setInstanceName("pull");
        consumer.start();
        List<MessageQueue> queues = new ArrayList<>(consumer.fetchSubscribeMessageQueues(TOPIC));
        Collections.sort(queues);
        int found = 0;
        for (MessageQueue queue : queues) {
            long min = consumer.minOffset(queue);
            long max = consumer.maxOffset(queue);
            System.out.println("queue " + queue.getQueueId() + " min " + min + " max " + max + " earliest " + consumer.earliestMsgStoreTime(queue));
            for (long offset = min; offset < max;) {
                PullResult result = consumer.pull(queue, "*", offset, 32);
                check(result.getPullStatus() == PullStatus.FOUND && result.getNextBeginOffset() > offset, "at " + offset + ": " + result);
                for (MessageExt message : result.getMsgFoundList()) {
                    check(message.getQueueOffset() == offset, "offset " + message.getQueueOffset() + " where " + offset + " belongs");
                    System.out.println(Dump.text(message));
                    offset++;
                    found++;
                }
                check(result.getNextBeginOffset() == offset, "the next one is " + offset + ": " + result);
            }
            for (long offset = min; offset < max; offset += 13) {
                PullResult inside = consumer.pull(queue, "*", offset, 1);
                MessageExt first = inside.getMsgFoundList().get(0);
                System.out.println("from " + offset + ": " + first.getQueueOffset() + " to " + inside.getNextBeginOffset());
                long stored = first.getStoreTimestamp();
                System.out.println("at " + stored + " offset " + consumer.searchOffset(queue, stored));
            }
            PullResult behind = consumer.pull(queue, "*", max, 1, 1_000);
            System.out.println("behind " + behind.getPullStatus() + " next " + behind.getNextBeginOffset());
        }
        check(found == all, found + " messages instead of " + all);
        consumer.shutdown();
    }

    private static void check(boolean condition, String otherwise) {
        if (!condition) {
            throw new AssertionError(otherwise);
        }
    }
}
