package peer;

import java.net.InetSocketAddress;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageDecoder;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.remoting.protocol.route.QueueData;
import org.apache.rocketmq.remoting.protocol.subscription.SubscriptionGroupConfig;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/**
 * Arguments: name server, broker address, prefixes that {@link Fill} was given. Prints everything that a client can learn of their topics and
 * groups: two servers on equal directories print the same.
 */
@SuppressWarnings("deprecation")
public final class Dump {
    public static void main(String[] args) {
        Run.main(() -> dump(args));
    }

    private static void dump(String[] args) throws Exception {
        DefaultMQAdminExt admin = new DefaultMQAdminExt(20_000);
        admin.setNamesrvAddr(args[0]);
        admin.start();
        String[] broker = args[1].split(":");
        InetSocketAddress address = new InetSocketAddress(broker[0], Integer.parseInt(broker[1]));
        for (int i = 2; i < args.length; i++) {
            for (int t = 0; t < Fill.TOPICS; t++) {
                topic(admin, args[0], address, args[i], t);
                SubscriptionGroupConfig group = admin.examineSubscriptionGroupConfig(args[1], Fill.group(args[i], t));
                System.out.println("group " + group.getGroupName() + " retries " + group.getRetryMaxTimes() + " enabled " + group.isConsumeEnable());
            }
        }
        admin.shutdown();
    }

    private static void topic(DefaultMQAdminExt admin, String nameServer, InetSocketAddress broker, String prefix, int t) throws Exception {
        String topic = Fill.topic(prefix, t);
        // A broker that has just started may reach its name server a little later.
        Run.await("the route of " + topic, () -> {
            try {
                return !admin.examineTopicRouteInfo(topic).getQueueDatas().isEmpty();
            } catch (MQClientException unknown) {
                return false;
            }
        });
        for (QueueData queue : admin.examineTopicRouteInfo(topic).getQueueDatas()) {
            System.out.println("topic " + topic + " broker " + queue.getBrokerName() + " read " + queue.getReadQueueNums() + " write " + queue.getWriteQueueNums()
                + " perm " + queue.getPerm());
        }
        DefaultMQPullConsumer consumer = new DefaultMQPullConsumer(Fill.group(prefix, t));
        consumer.setNamesrvAddr(nameServer);
        consumer.setInstanceName(Fill.group(prefix, t));
        consumer.start();
        List<MessageQueue> queues = new ArrayList<>(consumer.fetchSubscribeMessageQueues(topic));
        Collections.sort(queues);
        for (MessageQueue queue : queues) {
            long min = consumer.minOffset(queue);
            long max = consumer.maxOffset(queue);
            System.out.println("queue " + topic + " " + queue.getQueueId() + " min " + min + " max " + max + " committed " + consumer.fetchConsumeOffset(queue, true)
                + " earliest " + consumer.earliestMsgStoreTime(queue));
            List<Long> times = new ArrayList<>();
            for (long offset = min; offset < max;) {
                PullResult result = consumer.pull(queue, "*", offset, 32);
                if (result.getPullStatus() != PullStatus.FOUND || result.getNextBeginOffset() <= offset) {
                    throw new IllegalStateException("at " + offset + " of " + queue + ": " + result);
                }
                for (MessageExt message : result.getMsgFoundList()) {
                    System.out.println(text(message));
                    times.add(message.getStoreTimestamp());
                }
                offset = result.getNextBeginOffset();
            }
            PullResult filtered = consumer.pull(queue, "标签 || tag2", min, 32);
            System.out.println("filtered " + filtered.getPullStatus() + " next " + filtered.getNextBeginOffset() + " "
                + (filtered.getMsgFoundList() == null ? 0 : filtered.getMsgFoundList().size()));
            for (int i = 0; i < times.size(); i += 17) {
                System.out.println("at " + times.get(i) + " offset " + consumer.searchOffset(queue, times.get(i)));
            }
            System.out.println("before all " + consumer.searchOffset(queue, 0) + " after all " + consumer.searchOffset(queue, times.get(times.size() - 1) + 1));
            MessageExt some = consumer.pull(queue, "*", (min + max) / 2, 1).getMsgFoundList().get(0);
            // An id names the address that the message was stored at; this server may listen elsewhere.
            String id = MessageDecoder.createMessageId(broker, some.getCommitLogOffset());
            System.out.println("view " + text(admin.viewMessage(topic, id)));
            String unique = some.getProperty(MessageConst.PROPERTY_UNIQ_CLIENT_MESSAGE_ID_KEYIDX);
            System.out.println("unique " + text(admin.viewMessage(topic, unique)));
        }
        for (String key : new String[] {"key0", "key17", "键42", "key49", "absent"}) {
            List<String> lines = new ArrayList<>();
            try {
                for (MessageExt message : admin.queryMessage(topic, key, 64, 0, Long.MAX_VALUE).getMessageList()) {
                    lines.add(text(message));
                }
            } catch (MQClientException none) {
                lines.add("code " + none.getResponseCode());
            }
            Collections.sort(lines);
            System.out.println("query " + key + " " + lines.size());
            lines.forEach(System.out::println);
        }
        consumer.shutdown();
    }

    static String text(MessageExt message) throws Exception {
        StringBuilder hash = new StringBuilder();
        for (byte each : MessageDigest.getInstance("MD5").digest(message.getBody())) {
            hash.append(String.format("%02x", each));
        }
        Map<String, String> properties = new TreeMap<>(message.getProperties());
        // The client adds these to what it pulled.
        properties.remove(MessageConst.PROPERTY_MIN_OFFSET);
        properties.remove(MessageConst.PROPERTY_MAX_OFFSET);
        return "  " + message.getTopic() + " " + message.getQueueId() + " offset " + message.getQueueOffset() + " at " + message.getCommitLogOffset() + " size "
            + message.getStoreSize() + " born " + message.getBornTimestamp() + " " + message.getBornHost() + " stored " + message.getStoreTimestamp() + " "
            + message.getStoreHost() + " flag " + message.getFlag() + "/" + message.getSysFlag() + " reconsumed " + message.getReconsumeTimes() + " crc "
            + message.getBodyCRC() + " body " + message.getBody().length + " " + hash + " " + properties;
    }
}
