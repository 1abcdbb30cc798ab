package status

// Help tells what is in the way, and what helps. It is empty for a word that
// does not belong to the closed set.
func (r Reason) Help() Help {
	for _, room := range []func(Reason) Help{helpHere, helpGates, helpLock, helpPool, helpAPI, helpDown, helpBack} {
		if h := room(r); h != (Help{}) {
			return h
		}
	}
	return Help{}
}

// helpHere is about this machine: the sentinel, logind, the budget of reboots.
func helpHere(r Reason) Help {
	switch r {
	case SentinelGone:
		return Help{
			`No sentinel file asks for a reboot any more, so the try was rolled back.`,
			`Nothing to do: the node stays in service. "kured request" asks for a reboot all the same.`,
		}
	case SentinelUnreadable:
		return Help{
			`A sentinel file, or the unit that makes it, has failed: nobody knows whether a reboot is wanted, so nothing is begun.`,
			`Repair what "kured why" names; "systemctl status 'kured-*'" shows the units. The next check that succeeds takes the error off.`,
		}
	case Inhibited:
		return Help{
			`A program holds a block inhibitor against shutdown, as package managers do while they work. Before the cordon kured waits for it, afterwards for gates.inhibitor_patience.`,
			`Nothing to do while that program works. "systemd-inhibit --list" shows who it is and why.`,
		}
	case ShutdownScheduled:
		return Help{
			`Somebody has scheduled that this machine goes down and stays off, or where reboot.delay is set any shutdown. A reboot would foil that, so nothing is begun, and a cycle that runs is rolled back.`,
			`Nothing to do if it is meant. "shutdown --show" tells what is scheduled, "shutdown -c" cancels it.`,
		}
	case LogindUnavailable:
		return Help{
			`systemd-logind does not answer on the system bus, or says that this machine cannot reboot.`,
			`"systemctl status systemd-logind dbus" shows whether they run, "kured doctor" asks logind as the daemon does.`,
		}
	case RebootBudget:
		return Help{
			`Within 24 hours the node has rebooted as often as reboot.max_per_day allows, and a reboot is wanted again: perhaps it does not satisfy whoever asks for it.`,
			`Find out who makes the sentinel: "kured why" names it and the packages. Then raise reboot.max_per_day and "systemctl reload kured", or wait until the time it tells.`,
		}
	case BudgetUnreadable:
		return Help{
			`The times of the last reboots, in /var/lib/kured/reboots.json, cannot be read or written. Without them a loop of reboots could not be noticed.`,
			`Look at the disk with "df /var/lib/kured". A damaged file may be removed: "rm /var/lib/kured/reboots.json".`,
		}
	case UptimeShort:
		return Help{
			`The machine does not run for as long yet as reboot.min_uptime demands, or its uptime cannot be read.`,
			`Nothing to do: "kured why" tells when it has run for long enough.`,
		}
	}
	return Help{}
}

// helpGates is about the other gates.
func helpGates(r Reason) Help {
	switch r {
	case OutsideWindow:
		return Help{
			`No window for reboots is open. If the window has closed in mid-cycle, the try was rolled back.`,
			`Nothing to do: "kured why" tells when the next window opens, "kured config show" prints the windows.`,
		}
	case WindowEnding:
		return Help{
			`The window closes, or a freeze begins, sooner than schedule.min_remaining allows: nothing is begun any more.`,
			`Nothing to do: it goes on in the next window. "kured config show" prints the windows.`,
		}
	case PauseUnreadable:
		return Help{
			`A pause of this node cannot be read, or the time of its end is none. It counts as a pause without an end.`,
			`"kured resume" removes the pause of this machine, "kubectl annotate node NODE kured.dev/pause-" the one on the Node.`,
		}
	case BlockingPods:
		return Help{
			`Pods run on this node during which it may not reboot, by gates.blocking_pods.`,
			`Nothing to do if they end by themselves: "kured why" names them. "kubectl get pods -A --field-selector spec.nodeName=NODE" shows all that run here.`,
		}
	case PodsUnreadable:
		return Help{
			`The pods of this node cannot be listed, so nobody knows whether one of them is in the way.`,
			`"kured doctor" checks the way to the API server and the permissions one by one.`,
		}
	case RivalHolds:
		return Help{
			`A node holds the lock of the DaemonSet kured that compat.daemonset names, and is about to reboot.`,
			`Nothing to do while that node reboots. A lock that was left behind: "kubectl -n NAMESPACE annotate daemonset NAME weave.works/kured-node-lock-" takes it off.`,
		}
	case RivalUnreadable:
		return Help{
			`The lock of the DaemonSet kured cannot be read or understood, so it counts as held.`,
			`"kured doctor" checks the permission. When the migration is over take compat.daemonset out of the configuration and "systemctl reload kured".`,
		}
	case AlertsFiring:
		return Help{
			`Alerts are active that keep this node from rebooting.`,
			`Repair what "kured why" names. An alert that should not count belongs in ignore_names or ignore of the configuration; then "systemctl reload kured".`,
		}
	case AlertsUnreadable:
		return Help{
			`No Prometheus or Alertmanager of the configuration can be asked for alerts, so they count as firing.`,
			`Repair what "kured why" names, "kured doctor" tries them again. To go on without it take it out of the configuration and "systemctl reload kured".`,
		}
	case QueryBlocks:
		return Help{
			`A PromQL query of the configuration has a result: before the reboot the node may not go, after it the node does not count as well.`,
			`Repair what "kured why" names; then it goes on by itself.`,
		}
	case QueryUnreadable:
		return Help{
			`A PromQL query of the configuration cannot be answered, so it counts as one that blocks.`,
			`Repair what "kured why" names, "kured doctor" tries it again. To go on without it take it out of the configuration and "systemctl reload kured".`,
		}
	case DrainBlocked:
		return Help{
			`A rehearsal of the drain shows that it could not end now, so the node does not ask for the lock. It is rehearsed again after about 5 minutes.`,
			`"kured plan" names the pods and what holds them, "kubectl get pdb -A" shows the budgets.`,
		}
	}
	return Help{}
}

// helpLock is about the lock object.
func helpLock(r Reason) Help {
	switch r {
	case LockFull:
		return Help{
			`As many nodes as allowed hold the lock.`,
			`Nothing to do while they go on: "kured lock" shows them and since when. To go on without one that never comes back: "kubectl delete node HOLDER".`,
		}
	case BehindOthers:
		return Help{
			`The lock has room, but others that wait are ahead of this node.`,
			`Nothing to do. "kured lock" shows the order; who does not take its turn is overtaken.`,
		}
	case RoomFull:
		return Help{
			`As many nodes wait for the lock as its waiting room has places, so this one looks again from time to time.`,
			`Nothing to do. "kured lock" shows who holds the lock and who waits.`,
		}
	case LockUnreadable:
		return Help{
			`The lock has an entry or a key that this kured cannot read: damaged, or of another version. While it stands nobody takes the lock.`,
			`"kured lock" names it. If it is damaged, "kured lock release HOLDER --reason WHY" removes it; if a later kured wrote it, upgrade the others.`,
		}
	case LockMissing:
		return Help{
			`The ConfigMap of the lock does not exist.`,
			`An admin creates it, and what else is needed: "kured manifests" prints it for "kubectl apply --server-side -f -".`,
		}
	case EntryForeign:
		return Help{
			`This node's own entry in the lock cannot be read: it is damaged, or of another version of kured. Nobody knows what it stands for, so everything stays as it is.`,
			`"kured lock" tells what is wrong with it. If it is damaged, "kured lock release NODE --reason WHY" removes it; else install the kured that wrote it.`,
		}
	case LockLost:
		return Help{
			`Somebody released this node's lock, or created its Node anew, in mid-cycle. kured takes off its cordon and waits before the next try.`,
			`Nothing to do. "kubectl describe node NODE" tells who released it and why.`,
		}
	}
	return Help{}
}

// helpPool is about what the lock looks at beside its object.
func helpPool(r Reason) Help {
	switch r {
	case PeersUnavailable:
		return Help{
			`Nodes of the pool that are not Ready, or were cordoned by somebody else, already use up the number that may be down.`,
			`Repair or uncordon those that "kured why" names, or delete the Node of one that never comes back; "kubectl get nodes" shows all.`,
		}
	case TooFewReady:
		return Help{
			`If this node went down, fewer nodes than lock.min_ready would be Ready, or no quorum of the control plane.`,
			`Repair those that are not Ready: "kubectl get nodes" shows them.`,
		}
	case NodesUnreadable:
		return Help{
			`The nodes of the pool cannot be listed, so nobody knows how many of them are down.`,
			`"kured doctor" checks the permission; "kured manifests" prints what grants it.`,
		}
	case NotInPool:
		return Help{
			`lock.node_selector does not select this node, so it cannot be counted in its own pool.`,
			`Label the node: "kubectl label node NODE NAME=VALUE". Or correct lock.node_selector and "systemctl reload kured".`,
		}
	case ZoneBusy:
		return Help{
			`Nodes of another zone have their turn, by lock.topology_key.`,
			`Nothing to do. "kured lock" shows which zone it is and who holds the lock.`,
		}
	case Paused:
		return Help{
			`A person has paused this node or, by the policy, the whole cluster.`,
			`"kured resume" ends the pause of this machine, "kured resume --all" that of the cluster, "kubectl annotate node NODE kured.dev/pause-" the one on the Node.`,
		}
	case Frozen:
		return Help{
			`A freeze is in force: one of the configuration, or of the policy for the whole cluster.`,
			`Nothing to do: "kured why" tells until when. "kured config show" prints the freezes of this node; "kured resume --all" ends one that a person began with "kured pause --all".`,
		}
	case PolicyUnreadable:
		return Help{
			`The policy for the whole cluster cannot be understood, so nobody reboots.`,
			`Correct the key that "kured why" names: "kubectl -n NAMESPACE edit configmap POLICY".`,
		}
	}
	return Help{}
}

// helpAPI is about the API server and this node's identity.
func helpAPI(r Reason) Help {
	switch r {
	case APIUnreachable:
		return Help{
			`The API server does not answer, or not with an answer that could be used. Nothing is begun; what has begun keeps the lock and the cordon and waits.`,
			`Nothing to do if it comes back: kured tries again by itself. "kured doctor" checks the way to it, "systemctl status kubelet" whether the kubelet reaches it.`,
		}
	case APIForbidden:
		return Help{
			`The API server refuses what kured asks for: a permission is missing, the credential is not valid any more, or an admission policy says no.`,
			`"kured doctor" checks the permissions one by one, "kured manifests" prints what grants them.`,
		}
	case APIRefused:
		return Help{
			`The API server does not accept what kured writes, perhaps because an admission policy is of another version.`,
			`"kured why" tells what it says. "kured manifests" prints the policies of this version for "kubectl apply --server-side -f -".`,
		}
	case NodeMissing:
		return Help{
			`The cluster has no Node of this name, or it was created anew.`,
			`See "kubectl get node NODE". The kubelet creates it when it joins: "systemctl status kubelet".`,
		}
	case NoCredential:
		return Help{
			`No credential for the API server can be used: there is no kubeconfig, it cannot be read, or it is refused.`,
			`Nothing to do on a machine that is about to join. Otherwise "kured doctor" tells where kured looks and what it finds; kubernetes.kubeconfig names another place.`,
		}
	}
	return Help{}
}

// helpDown is about the drain, the hooks and the reboot.
func helpDown(r Reason) Help {
	switch r {
	case DrainTimeout:
		return Help{
			`The drain did not end within drain.timeout. By drain.on_timeout it was rolled back, or all is kept for a person to look at.`,
			`"kured plan" names the pods and what holds them: help those. While it is held, "systemctl restart kured" drains anew.`,
		}
	case DrainFailed:
		return Help{
			`The drain cannot be done: a pod may not be evicted by the configuration, the API server refuses it, or somebody uncordons the node again and again.`,
			`"kured why" names the cause, "kured plan" the pods. The next try comes by itself.`,
		}
	case VolumesAttached:
		return Help{
			`The pods are gone, but volumes are still attached to this node. kured waits for at most drain.wait_for_volumes, and then goes on.`,
			`Nothing to do. "kubectl get volumeattachments" shows them.`,
		}
	case HookDeferred:
		return Help{
			`A hook says: not now (exit code 75). Before the reboot the try is rolled back and made again later; after it the lock is kept and the hook run again.`,
			`Nothing to do if the hook means it. "journalctl -u 'kured-hook@*'" tells which one it was.`,
		}
	case HookFailed:
		return Help{
			`A hook has failed, took longer than hooks.timeout, or systemd could not run it. Before the reboot the try is rolled back; after it the lock is kept.`,
			`Repair the hook: "journalctl -u 'kured-hook@*'" tells which one it was. It is run again by itself.`,
		}
	case RebootRefused:
		return Help{
			`logind refused to reboot the machine or to announce it, so the try was rolled back.`,
			`"journalctl -u systemd-logind" tells why, "kured doctor" asks logind again. The next try comes by itself.`,
		}
	case RebootUnconfirmed:
		return Help{
			`logind accepted the reboot but did not begin the shutdown within reboot.confirm_within, so the try was rolled back.`,
			`"journalctl -u systemd-logind" tells what it did. The next try comes by itself.`,
		}
	case RebootUnknown:
		return Help{
			`logind was asked to reboot and cannot be asked any more: the machine is probably going down. The lock and the cordon are kept until logind says otherwise.`,
			`Nothing to do if it goes down within minutes. Otherwise look at "systemctl status systemd-logind dbus".`,
		}
	case RebootOverdue:
		return Help{
			`logind accepted the reboot, and after reboot.overdue the machine is still up. The lock and the cordon are kept.`,
			`"systemctl list-jobs" shows what holds up the shutdown. If nothing else helps, "systemctl reboot --force" does without stopping services in order.`,
		}
	case RebootCancelled:
		return Help{
			`A person or a program took the reboot back, or has scheduled a shutdown of its own. The try was rolled back.`,
			`Nothing to do: the next try comes by itself. To keep it from coming, "kured pause --reason WHY".`,
		}
	case RebootDelayed:
		return Help{
			`The reboot is announced to those who are logged in, and comes when reboot.delay is over.`,
			`Nothing to do. "shutdown -c" takes it back, "kured pause --reason WHY" keeps it from coming again.`,
		}
	case DryRun:
		return Help{
			`reboot.dry_run is set: with the lock in hand kured told what it would do now, and gave it back.`,
			`Nothing to do. To let the node reboot, take reboot.dry_run out of the configuration and "systemctl reload kured".`,
		}
	}
	return Help{}
}

// helpBack is about the way back, and about giving up.
func helpBack(r Reason) Help {
	switch r {
	case AwaitingReturn:
		return Help{
			`The node has rebooted, and the daemon leaves the rest to kured-uncordon.service. That waits for boot-complete.target, and with it for health checks.`,
			`Nothing to do. If it takes long, "systemctl status kured-uncordon.service boot-complete.target" shows what is missing.`,
		}
	case NotReady:
		return Help{
			`The node is not Ready in this boot yet. It stays cordoned, and keeps the lock if it has it, so that no other node goes down as well.`,
			`"kubectl describe node NODE" and "systemctl status kubelet" tell why. When it is repaired the rest goes by itself.`,
		}
	case PodsNotReady:
		return Help{
			`Pods that DaemonSets have on this node are not Ready yet; return.daemon_sets waits for them.`,
			`"kubectl get pods -A --field-selector spec.nodeName=NODE" shows them. When they are well the rest goes by itself.`,
		}
	case Settling:
		return Help{
			`The node is Ready, and has to stay so for return.settle.`,
			`Nothing to do.`,
		}
	case ReleaseDelayed:
		return Help{
			`The node is in service again, and keeps the lock for return.release_delay.`,
			`Nothing to do.`,
		}
	case GaveUp:
		return Help{
			`The node was not well within return.give_up_after of its boot. It released the lock, and stays cordoned until it is well; meanwhile it counts as down (lock.count_unavailable).`,
			`Repair it: "kubectl describe node NODE" and "journalctl -u kured-uncordon" tell what is missing. The rest goes by itself.`,
		}
	case Abandoned:
		return Help{
			`kured is being taken off this node: it gives back its cordon, its lock and its place in the queue.`,
			`Nothing to do.`,
		}
	}
	return Help{}
}
