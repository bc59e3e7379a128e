package peer;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.remoting.protocol.subscription.SubscriptionGroupConfig;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/**
 * Arguments: name server, broker address, prefix. Makes topics, groups, messages (keyed, tagged, with properties, in batches, small and large) and
 * consumer offsets: some 12 MiB in all.
 */
@SuppressWarnings("deprecation")
public final class Fill {
    static final int TOPICS = 3;

    static String topic(String prefix, int i) {
        return prefix + "_topic" + i;
    }

    static String group(String prefix, int i) {
        return prefix + "_group" + i;
    }

    public static void main(String[] args) {
        Run.main(() -> fill(args));
    }

    private static void fill(String[] args) throws Exception {
        String nameServer = args[0];
        String broker = args[1];
        String prefix = args[2];
        DefaultMQAdminExt admin = new DefaultMQAdminExt(20_000);
        admin.setNamesrvAddr(nameServer);
        admin.start();
        for (int i = 0; i < TOPICS; i++) {
            admin.createAndUpdateTopicConfig(broker, new TopicConfig(topic(prefix, i), 2 + i, 2 + i, 6));
            SubscriptionGroupConfig group = new SubscriptionGroupConfig();
            group.setGroupName(group(prefix, i));
            group.setRetryMaxTimes(3 + i);
            admin.createAndUpdateSubscriptionGroupConfig(broker, group);
        }
        DefaultMQProducer producer = new DefaultMQProducer(prefix + "_producer");
        producer.setNamesrvAddr(nameServer);
        producer.setCompressMsgBodyOverHowmuch(Integer.MAX_VALUE);
        producer.setSendMsgTimeout(20_000);
        producer.start();
        Random random = new Random(1);
        for (int t = 0; t < TOPICS; t++) {
            String topic = topic(prefix, t);
            List<MessageQueue> queues = Run.queues(producer, topic);
            for (int i = 0; i < 300; i++) {
                MessageQueue queue = queues.get(i % queues.size());
                if (i % 10 == 9) {
                    List<Message> batch = new ArrayList<>();
                    for (int b = 0; b < 5; b++) {
                        batch.add(message(topic, i * 10 + b, random, 200));
                    }
                    producer.send(batch, queue);
                } else {
                    producer.send(message(topic, i, random, i % 7 == 0 ? 60_000 : 3_000), queue);
                }
            }
            DefaultMQPullConsumer consumer = new DefaultMQPullConsumer(group(prefix, t));
            consumer.setNamesrvAddr(nameServer);
            consumer.setInstanceName(group(prefix, t));
            consumer.start();
            for (MessageQueue queue : queues) {
                long offset = 7 + queue.getQueueId();
                consumer.updateConsumeOffset(queue, offset);
                consumer.getDefaultMQPullConsumerImpl().getOffsetStore().persist(queue);
                // The commit is one-way.
                Run.await("the offset of " + queue, () -> consumer.fetchConsumeOffset(queue, true) == offset);
            }
            consumer.shutdown();
        }
        producer.shutdown();
        admin.shutdown();
    }

    private static Message message(String topic, int i, Random random, int bytes) {
        byte[] body = new byte[random.nextInt(bytes) + 1];
        random.nextBytes(body);
        Message message = new Message(topic, i % 4 == 0 ? "标签" : "tag" + i % 4, "key" + i % 50 + " 键" + i, body);
        message.putUserProperty("number", String.valueOf(i));
        message.putUserProperty("地区", new String("北京".getBytes(StandardCharsets.UTF_8), StandardCharsets.UTF_8));
        return message;
    }
}
