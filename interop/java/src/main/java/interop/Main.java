package interop;

import java.util.Arrays;

/** Arguments: name server address, prefix of topics and groups, count of messages of the counting scenario. */
public final class Main {
    public static void main(String[] args) throws Exception {
        Clients clients = new Clients(args[0], args[1]);
        int count = Integer.parseInt(args[2]);
        Scenarios scenarios = new Scenarios();
        Sending sending = new Sending(clients);
        Consuming consuming = new Consuming(clients);
        Redelivering redelivering = new Redelivering(clients);
        Resetting resetting = new Resetting(clients);
        HandingOver handingOver = new HandingOver(clients);
        scenarios.runTogether(Arrays.asList(
            () -> sending.run(scenarios),
            () -> scenarios.run("push-concurrent", consuming::concurrent),
            () -> scenarios.run("push-orderly", consuming::orderly),
            () -> scenarios.run("broadcast", consuming::broadcast),
            () -> scenarios.run("reset", () -> resetting.run(scenarios)),
            () -> scenarios.run("handover", handingOver::killed),
            () -> {
                scenarios.run("delayed", redelivering::delayed);
                scenarios.run("retried", redelivering::retried);
                scenarios.run("suspended", redelivering::suspended);
            },
            () -> {
                scenarios.run("pull", consuming::pull);
                scenarios.run("lite-pull", consuming::litePull);
            }));
        scenarios.run("count", () -> new Counting(clients, count).run());
        // Threads of the official clients may outlive their shutdown.
        System.exit(scenarios.failed() ? 1 : 0);
    }
}
