package status

// Help is what a word means and what a person does about it, for `kured why`,
// the journal's catalog and the documentation. Commands stand in double quotes,
// with NODE, HOLDER, NAMESPACE, POLICY, NAME and WHY in the places of what is not
// known here: this node, another one that holds the lock, the policy's ConfigMap,
// another object's name, and a reason in one's own words.
type Help struct {
	Means string // one or two sentences
	Do    string // the same; begins with "Nothing to do" where it goes by itself
}

// Help tells what it means that the node is in this phase. It is empty for a
// word that does not belong to the closed set.
func (p Phase) Help() Help {
	switch p {
	case Starting:
		return Help{
			`kured has just started, or lost what it knew of the cluster: before anything else it reads its entry in the lock and its Node.`,
			`Nothing to do: it goes on by itself. If it stays so, "kured why" tells what is in the way.`,
		}
	case Idle:
		return Help{
			`No reboot is wanted. kured waits for a sentinel file and asks the API server nothing meanwhile.`,
			`Nothing to do. "kured request" asks for a reboot.`,
		}
	case Blocked:
		return Help{
			`A reboot is wanted, and something says: not now. The node is in service and has not begun.`,
			`"kured why" tells what is in the way and whether it goes by itself.`,
		}
	case Queued:
		return Help{
			`A reboot is wanted, and nothing on this node is in the way: it waits for its turn in the cluster. It is in service.`,
			`Nothing to do. "kured lock" shows who holds the lock and who waits for it.`,
		}
	case Locked:
		return Help{
			`It is this node's turn: it holds the lock, looks at everything once more, and is about to be cordoned.`,
			`Nothing to do. "kured status --watch" shows how it goes on.`,
		}
	case Draining:
		return Help{
			`The node holds the lock and is cordoned; its pods are moved away, and what is configured between the cordon and the reboot is done.`,
			`Nothing to do. "kured status --watch" shows the progress, "kured why" what holds it up.`,
		}
	case Rebooting:
		return Help{
			`The node was drained: everything is looked at a last time, and logind is asked to reboot. The lock and the cordon are kept across the reboot.`,
			`Nothing to do. If the machine stays up, "systemctl list-jobs" shows what holds up the shutdown.`,
		}
	case Returning:
		return Help{
			`The node has booted anew. kured-uncordon.service waits until it has proved that it is well, then uncordons it and releases the lock.`,
			`Nothing to do. If it takes long, "systemctl status kured-uncordon.service boot-complete.target" shows what is missing.`,
		}
	case RollingBack:
		return Help{
			`This try came to nothing: kured takes off its own cordon and releases the lock, so that other nodes can go.`,
			`Nothing to do: while a reboot is wanted the next try comes by itself. "kured why" tells what was in the way.`,
		}
	case BackingOff:
		return Help{
			`The last try was rolled back. The node is in service, holds no lock, and tries again at a time that is known.`,
			`Repair what "kured why" names; the next try comes by itself. "systemctl restart kured" tries at once.`,
		}
	case Held:
		return Help{
			`kured has stopped on purpose, and keeps the lock and the cordon if it has them. A person is needed.`,
			`"kured why" tells why it has stopped and what to do.`,
		}
	}
	return Help{}
}

// Message is something worth an id in the journal that is neither a phase nor
// the reason for one. The set is closed, and none of its words is one of theirs.
type Message string

// The messages, in the order of the story.
const (
	MessageStarted        Message = "started"       // the daemon
	MessageReloaded       Message = "reloaded"      // another configuration is in force
	MessageReloadFailed   Message = "reload-failed" // the old one stays
	MessageRebootRequired Message = "required"      // the sentinel has appeared
	MessageWaitingLong    Message = "waiting-long"  // gates.too_long is over
	MessagePodHeld        Message = "pod-held"      // a pod holds up the drain
	MessageVerified       Message = "verified"      // the end of a good cycle
	MessageNotRequired    Message = "not-required"  // the sentinel is gone
)

// Messages lists every message in the order of the story.
func Messages() []Message {
	return []Message{
		MessageStarted, MessageReloaded, MessageReloadFailed, MessageRebootRequired, MessageWaitingLong, MessagePodHeld,
		MessageVerified, MessageNotRequired,
	}
}

// Help tells what the message means. It is empty for a word that does not
// belong to the closed set.
func (m Message) Help() Help {
	switch m {
	case MessageStarted:
		return Help{
			`The daemon runs. If it was in the midst of a cycle it goes on from what is written in the cluster, or rolls back.`,
			`Nothing to do.`,
		}
	case MessageReloaded:
		return Help{
			`The configuration was read again and is in force. The place in the queue is kept, and a step that had begun is done to its end first.`,
			`Nothing to do. "kured config show" prints it.`,
		}
	case MessageReloadFailed:
		return Help{
			`The configuration was read again and is wrong, or this machine does not offer what it asks for. The one before stays in force.`,
			`Correct what the message names, look with "kured config check", then "systemctl reload kured".`,
		}
	case MessageRebootRequired:
		return Help{
			`A sentinel file asks for a reboot of this machine. kured begins when the gates are open and it is this node's turn.`,
			`Nothing to do. "kured why" tells what it waits for, "kured pause --reason WHY" holds it back.`,
		}
	case MessageWaitingLong:
		return Help{
			`A reboot is wanted for longer than gates.too_long allows, so kured says what is in the way. It goes on waiting.`,
			`"kured why" tells what is in the way and what helps.`,
		}
	case MessagePodHeld:
		return Help{
			`A pod does not leave the node: a PodDisruptionBudget or an admission webhook refuses its eviction, or it does not stop. kured asks again until drain.timeout is over.`,
			`"kured why" names the pod and what holds it, "kubectl get pdb -A" shows the budgets. More replicas, or a budget that allows one to leave, let it go.`,
		}
	case MessageVerified:
		return Help{
			`The node has rebooted, which its boot id proves, and is well. The lock is released, and the next node may go.`,
			`Nothing to do. "kured history" shows how long each phase took.`,
		}
	case MessageNotRequired:
		return Help{
			`The sentinel file is gone: no reboot is wanted any more. What had begun is rolled back.`,
			`Nothing to do.`,
		}
	}
	return Help{}
}
