package interop;

import java.util.Arrays;

/**
 * Arguments: name server address, prefix of topics and groups, count of messages of the counting scenario; and the one part to run, if not
 * all: {@code transactions}, which needs a server of its own, or one of those in {@link #only}.
 */
public final class Main {
    public static void main(String[] args) throws Exception {
        Clients clients = new Clients(args[0], args[1]);
        Scenarios scenarios = new Scenarios();
        if (args[2].equals("transactions")) {
            new Transactions(clients).run(scenarios);
            scenarios.run("traced", new Traces(clients)::traced);
        } else if (args.length > 3) {
            only(args[3], clients, scenarios);
        } else {
            everything(clients, scenarios, Integer.parseInt(args[2]));
        }
        // Threads of the official clients may outlive their shutdown.
        System.exit(scenarios.failed() ? 1 : 0);
    }

    private static void everything(Clients clients, Scenarios scenarios, int count) throws Exception {
        Sending sending = new Sending(clients);
        Consuming consuming = new Consuming(clients);
        Redelivering redelivering = new Redelivering(clients);
        Resetting resetting = new Resetting(clients);
        HandingOver handingOver = new HandingOver(clients);
        Selecting selecting = new Selecting(clients);
        scenarios.runTogether(Arrays.asList(
            () -> sending.run(scenarios),
            () -> scenarios.run("push-concurrent", consuming::concurrent),
            () -> scenarios.run("push-orderly", consuming::orderly),
            () -> scenarios.run("broadcast", consuming::broadcast),
            () -> {
                scenarios.run("delayed", redelivering::delayed);
                scenarios.run("retried", redelivering::retried);
                scenarios.run("suspended", redelivering::suspended);
            },
            () -> {
                scenarios.run("pull", consuming::pull);
                scenarios.run("lite-pull", consuming::litePull);
            }));
        // Apart from those above: too many clients at once do not get their first answers in three seconds on two cores.
        scenarios.runTogether(Arrays.asList(
            () -> scenarios.run("reset", () -> resetting.run(scenarios)),
            () -> scenarios.run("handover", handingOver::killed),
            () -> scenarios.run("select", () -> selecting.run(scenarios))));
        scenarios.run("count", () -> new Counting(clients, count).run());
    }

    /** A part may have a number behind a dash. */
    private static void only(String part, Clients clients, Scenarios scenarios) {
        String[] words = part.split("-");
        switch (words[0]) {
            case "select":
                scenarios.run(part, () -> new Selecting(clients).run(scenarios));
                break;
            case "request":
                scenarios.run(part, () -> new Requesting(clients).run(scenarios));
                break;
            case "light":
                scenarios.run(part, () -> new Light(clients, Integer.parseInt(words[1])).run(scenarios));
                break;
            case "compact":
                scenarios.run(part, () -> new Compacting(clients).run(scenarios));
                break;
            case "compacted":
                scenarios.run(part, () -> new Compacting(clients).again(scenarios, part));
                break;
            case "exact":
                scenarios.run(part, () -> new Compacting(clients).exact(scenarios));
                break;
            case "leave":
                scenarios.run(part, () -> new Pending(clients).leave(scenarios));
                break;
            case "find":
                scenarios.run(part, () -> new Pending(clients).find(scenarios, Long.parseLong(words[1])));
                break;
            default:
                throw new IllegalArgumentException(part);
        }
    }
}
