/*
 * The lock and the cycle of a cluster of three nodes, for spin (https://spinroot.com). docs/model.md says in words what is
 * in it, what is not and why; .ci/model runs it with the settings and the broken rules that stand in the file cases.
 *
 * How to read it: everything that there is stands in n[0..2], a record for each node. Everything that can happen is one
 * guarded command ":: guard -> effect" of the process Kured (what a node does by itself) or of World (what is done to it),
 * and is one atomic step. Between any two of them anything else may happen. Each command names the Go function it is for.
 *
 * The version of the lock object is not a number here, which would grow for ever. Only those copies matter on which a write is
 * about to rest (pc TAKE and BURY), and only whether they are still the newest: every write that changes the object sends who
 * is about to write back to reading, as ErrConflict does (inline moved). That is compare-and-swap.
 */

/* ---- Settings, changed with -D ------------------------------------------------------------------------------------- */
#ifndef MAX0 /* lock.max_concurrent of each node, 1 or 2 */
#define MAX0 1
#endif
#ifndef MAX1
#define MAX1 1
#endif
#ifndef MAX2
#define MAX2 1
#endif
#ifndef ROOM /* places in the waiting room: fewer than nodes */
#define ROOM 1
#endif
#ifndef FAULTS /* this many faults in all, of any kinds, each at any moment */
#define FAULTS 2
#endif
/*
 * CALM: trouble that is part of life (a sentinel that goes, a gate that closes, a drain that fails, an API server that does
 * not answer, a reboot that logind refuses) counts as a fault too; else it is free and may happen for ever. What is to come
 * to an end can only be promised with CALM.
 * ONCE: all three want one reboot, at the same instant, and never again; then what is left must be in order.
 * Faults that a setting leaves out: NO_KILL, NO_CUT, NO_ADMIN, NO_DELETE, NO_DAMAGE, NO_PERSON, NO_DRIFT.
 * LATE: a write without an answer may also come into force later, as long as the version that it names is the newest.
 */
#ifdef CALM
#define TROUBLE faults > 0
#define PAY faults--
#else
#define TROUBLE true
#define PAY skip
#endif
#define FAULT faults > 0

/* ---- What there is ------------------------------------------------------------------------------------------------- */
/* holder.<node> in the lock object, as cycle.Entry: the boot id in it is that node's boot of now or an earlier one. */
#define NONE    0
#define THIS    1
#define OLD     2
#define GARBLED 3 /* cannot be read: another version, or damage */
/* Node annotation kured.dev/cordoned: NONE, THIS or OLD. */

/* phase in the entry */
#define LOCKED    0
#define DRAINING  1
#define REBOOTING 2

/* the machine */
#define UP   0
#define DOWN 1
#define DEAD 2 /* does not return, or returns broken: nothing of it moves any more */

/* `kured run`: where cycle.Runner is */
#define IDLE    0  /* rest */
#define LEARN   1  /* learn, then Decide */
#define ACQUIRE 2  /* Acquire: in the waiting room, or on the way into it */
#define TAKE    3  /*   has read and decided to take; the write is next */
#define BURY    4  /*   has read and decided to remove what is stale by evidence; the write is next */
#define HOLDS   5  /* the lock is ours: cordon */
#define DRAIN   6  /* Advance(draining), evictions */
#define FENCE   7  /* Advance(rebooting): quorum read and write */
#define CALL    8  /* gates and sentinel a last time, then logind */
#define GOING   9  /* awaitShutdown */
#define BACK    10 /* giveBack: uncordon */
#define FREE    11 /* Release */
#define LOST    12 /* our mark without a lock: Uncordon */
#define AWAIT   13 /* awaitReturn */
#define HELD    14 /* HoldFast: loud, a person is needed */

/* `kured uncordon`, once at each boot */
#define R_OFF   0
#define R_LEARN 1 /* learn, then decideReturn; verify */
#define R_BACK  2 /* giveBack: uncordon */
#define R_FREE  3 /* Release */

/* a write of this node that is still under way although nobody waits for its answer any more (LATE) */
#define NOTHING  0
#define L_TAKE   1 /* a holder entry with the boot of now; lock.Pending knows of it */
#define L_STRAY  2 /* the same, and nobody knows of it: the daemon was killed */
#define L_OLD    3 /* a holder entry with an earlier boot */
#define L_FREE   4 /* the removal of its entries */

typedef Node {
	/* the lock object: this node's keys */
	unsigned holder : 2;
	unsigned phase  : 2;
	unsigned max    : 2; /* "max" in the entry */
	unsigned stale  : 1; /* its "uid" is not that of a Node that exists */
	unsigned waiter : 1;
	/* the Node object */
	unsigned exists : 1;
	unsigned cordon : 1; /* spec.unschedulable */
	unsigned mark   : 2;
	unsigned person : 1; /* a person cordoned it (nobody can see that; for LAW 3) */
	/* the machine */
	unsigned power  : 2;
	unsigned going  : 1; /* logind has accepted a reboot */
	unsigned want   : 1; /* the sentinel stands */
	unsigned own    : 2; /* lock.max_concurrent in kured.toml */
	/* the daemon; a daemon that was killed knows nothing of this any more */
	unsigned pc     : 4;
	unsigned drained : 1;
	unsigned olduid : 1; /* it connected when the Node was another object */
	/* the oneshot */
	unsigned ret    : 2;
	/* the network */
	unsigned late   : 3;
	/* only for the properties */
	unsigned holding : 1; /* took, and neither gave back, nor was released by an admin, nor has lost its Node */
	unsigned pardon : 1;  /* its entry was taken away between its fence and its call */
#ifdef BY_NAME
	unsigned rumour : 2;  /* 1 + a node that was once seen to be gone */
#endif
};

Node n[3];
byte faults = FAULTS;

/* Nodes are interchangeable: nothing above depends on a name. With SYMMETRY only one of the orders in which the same three
 * records can stand is looked at. Not for a look at a counterexample: in it the nodes would change names as they go. */
#ifdef SYMMETRY
c_code {
	static void swap(int a, int b) {
		if (memcmp(&now.n[a], &now.n[b], sizeof now.n[a]) > 0) {
			struct Node t = now.n[a]; now.n[a] = now.n[b]; now.n[b] = t;
		}
	}
};
#define same_again() c_code { swap(0, 1); swap(1, 2); swap(0, 1); }
#else
#define same_again() skip
#endif

/* ---- Properties that must hold at each moment. pan names the one that does not. ---------------------------------------- */
bit at_most_limit_hold = 1;                 /* LAW 1 */
bit no_reboot_without_lock = 1;             /* LAW 1 */
bit back_in_service_only_after_reboot = 1;  /* LAW 2 */
bit reboot_unverified_keeps_lock = 1;       /* LAW 2 */
bit a_persons_cordon_stays = 1;             /* LAW 3 */
bit cordoned_by_us_only_while_holding = 1;  /* LAW 1: who is out of service counts */
bit nothing_is_silently_stuck = 1;          /* LAW 4, with ONCE */
byte count, tightest;

inline among_those_who_hold(m) {
	if
	:: n[m].holding ->
		count++;
		if :: n[m].max < tightest -> tightest = n[m].max :: else fi
	:: else
	fi
}

inline check_limit() {
	count = 0; tightest = 3;
	among_those_who_hold(0); among_those_who_hold(1); among_those_who_hold(2);
	at_most_limit_hold = (count <= tightest);
	assert(at_most_limit_hold);
	count = 0; tightest = 0
}

/* ---- The lock object: store.go, state.go ------------------------------------------------------------------------------- */
/* The object has another version now: who was about to write what it decided on the former one gets ErrConflict and reads
 * again; a write under way that names the former version is refused. This is compare-and-swap. */
#ifdef NO_COMPARE
#define MOVED(m) n[m].late = NOTHING
#else
#define MOVED(m) if :: n[m].pc == TAKE || n[m].pc == BURY -> n[m].pc = ACQUIRE :: else fi; n[m].late = NOTHING
#endif
inline moved() { MOVED(0); MOVED(1); MOVED(2) }

/* take() in state.go */
inline put_holder(i, boot) {
	n[i].holder = boot; n[i].phase = LOCKED; n[i].waiter = 0;
	n[i].stale = (n[i].olduid || !n[i].exists);
	n[i].max = n[i].own;
	n[i].holding = !n[i].stale;
	moved();
	check_limit()
}

/* Both keys of a node go: leave() in state.go, a burial, `kured lock release`. */
inline remove_keys(i) {
	n[i].holder = NONE; n[i].phase = LOCKED; n[i].stale = 0; n[i].waiter = 0;
	if :: !n[i].holding -> n[i].max = 0 :: else fi;
	moved()
}

/* Lock.Advance: read, and write as long as it is ours. For a phase that stands already Runner.advance writes nothing. */
inline advance(i, to) {
	if
	:: n[i].phase != to -> n[i].phase = to; moved()
	:: else
	fi
}

/* But for the fence it does, and that always changes the entry ("fences"): a patch that changes nothing leaves the version as
 * it is, and with it what is under way in force. */
inline fence(i) {
#ifdef FENCE_CHANGES_NOTHING
	advance(i, REBOOTING);
#else
	n[i].phase = REBOOTING; moved();
#endif
	n[i].pardon = 0
}

/* Its entry is taken away by somebody else, who cannot know that it stands between its fence and its call. */
inline taken_away(i) { n[i].pardon = (n[i].pc == CALL && n[i].holder != NONE) }

/* ---- Whose turn: turn.go ------------------------------------------------------------------------------------------------- */
/* An entry counts unless it is buried: what is stale by evidence is removed first, in a write of its own. */
#ifdef UNREADABLE_IS_FREE
#define COUNTS(m) (n[m].holder == THIS || n[m].holder == OLD)
#else
#define COUNTS(m) (n[m].holder != NONE)
#endif
#define READABLE(m) (n[m].holder == THIS || n[m].holder == OLD)
/* State.limit: nobody knows under which limit an entry was taken that cannot be read, so that is 1. */
#ifdef MAX_OF_UNREADABLE
#define UNREADABLE_MAX 3
#else
#define UNREADABLE_MAX 1
#endif
#ifdef OWN_LIMIT_ONLY
#define ALLOWS(m, used) true
#else
#define ALLOWS(m, used) ((READABLE(m) -> n[m].max : (n[m].holder == GARBLED -> UNREADABLE_MAX : 3)) > used)
#endif
#ifdef OTHERS_LIMIT_ONLY
#define MINE_ALLOWS(i, used) (used < 2)
#else
#define MINE_ALLOWS(i, used) (n[i].own > used)
#endif
#define USED(a, b) (COUNTS(a) + COUNTS(b))
#define FREE_FOR(i, a, b) (MINE_ALLOWS(i, USED(a, b)) && ALLOWS(a, USED(a, b)) && ALLOWS(b, USED(a, b)))
/* State.Ask: limit = the tightest of own and of every holder that counts; free if fewer than that count. */
#define FREE_SLOT(i) ((i == 0 && FREE_FOR(0, 1, 2)) || (i == 1 && FREE_FOR(1, 0, 2)) || (i == 2 && FREE_FOR(2, 0, 1)))

/* Order. Who is ahead is asked first, and who is behind may take as well once the one ahead has let a slot lie for a while.
 * No clock is modelled, so anybody who asks may take a free slot at any time. Order is never safety. */
#ifdef HEAD_ONLY
#define MY_TURN(i) ((i == 0 || !n[0].waiter) && (i != 2 || !n[1].waiter))
#else
#define MY_TURN(i) true
#endif
#define ROOM_LEFT (n[0].waiter + n[1].waiter + n[2].waiter < ROOM)

/* Evidence: the Node does not exist, or is another object. That stays true for ever once it is true of an entry. */
#ifdef TTL
#define GONE(i, m) (READABLE(m) && (n[m].stale || n[m].power != UP))
#else
#ifdef BURY_THE_LIVING
#define GONE(i, m) (READABLE(m))
#else
#ifdef BY_NAME
#define GONE(i, m) (READABLE(m) && (n[m].stale || n[i].rumour == 1 + m))
#else
#define GONE(i, m) (READABLE(m) && n[m].stale)
#endif
#endif
#endif
#define BURIABLE(i, m) (m != i && (GONE(i, m) || (n[m].waiter && n[m].holder == NONE && !n[m].exists)))

inline bury(i, m) { if :: BURIABLE(i, m) -> taken_away(m); remove_keys(m) :: else fi }

/* ---- The Node object: node/cordon.go. Writes are compare-and-swap there too, tried again until they are in. -------------- */
inline set_cordon(i) {
	if
	:: n[i].cordon && n[i].mark == NONE -> skip /* a person's: no mark */
	:: else -> n[i].cordon = 1; n[i].mark = THIS
	fi
}

inline lift_cordon(i) {
#ifdef UNCORDON_ANY
	a_persons_cordon_stays = !n[i].person;
	assert(a_persons_cordon_stays);
	n[i].cordon = 0; n[i].mark = NONE
#else
	if
	:: n[i].mark != NONE ->
		a_persons_cordon_stays = !n[i].person;
		assert(a_persons_cordon_stays);
		n[i].cordon = 0; n[i].mark = NONE
	:: else
	fi
#endif
}

/* ---- The machine ----------------------------------------------------------------------------------------------------------- */
inline goes_down(i) {
	n[i].power = DOWN; n[i].going = 0; n[i].want = 0;
	n[i].pc = IDLE; n[i].drained = 0; n[i].olduid = 0; n[i].pardon = 0; n[i].ret = R_OFF
}

/* A new boot id: what was written in "this" boot was written in an earlier one. The kubelet registers a missing Node. */
inline boots(i) {
	n[i].power = UP;
	if :: n[i].holder == THIS -> n[i].holder = OLD; n[i].phase = LOCKED :: else fi;
	if :: n[i].mark == THIS -> n[i].mark = OLD :: else fi;
	if :: n[i].late == L_TAKE || n[i].late == L_STRAY -> n[i].late = L_OLD :: else fi;
	n[i].exists = 1;
	n[i].pc = LEARN; n[i].ret = R_LEARN
}

/* What it knows of a write without an answer goes with the process, not with the connection (lock.Pending). */
inline forgets_write(i) {
	if :: n[i].late == L_TAKE -> n[i].late = L_STRAY :: else fi
}

inline restarts(i) { n[i].pc = LEARN; n[i].drained = 0; n[i].pardon = 0; forgets_write(i)
#ifdef RESTART_IS_REBOOT
	; n[i].ret = R_LEARN
#endif
}

inline rests(i) { n[i].pc = IDLE; n[i].want = 0; n[i].olduid = 0 }

#define RUNS(place) (n[i].power == UP && n[i].pc == place)
#define RETURNS(place) (n[i].power == UP && n[i].ret == place)
#define REBOOTED (n[i].holder == OLD || (n[i].holder == NONE && n[i].mark == OLD))
#define MID (n[i].holder == THIS && !(n[i].going && n[i].phase == REBOOTING))
#define STILL_OURS (n[i].holder == THIS && n[i].stale == n[i].olduid) /* Advance: boot and UID are those it knows of itself */
/* Pending.mayLand: a take is under way that was based on the version of now. */
#ifdef RELEASE_VOIDS_NOTHING
#define UNANSWERED false
#else
#define UNANSWERED (n[i].late == L_TAKE)
#endif
/* decideReturn */
#ifdef RETURN_NEEDS_ENTRY
#define COMES_BACK (n[i].holder == OLD)
#else
#ifdef RESTART_IS_REBOOT
#define COMES_BACK (READABLE(i) || (n[i].holder == NONE && n[i].mark == OLD))
#else
#define COMES_BACK REBOOTED
#endif
#endif
/* What Release of the oneshot, and that of the daemon, may remove. */
#if defined(FREE_ANY_BOOT) || defined(RESTART_IS_REBOOT)
#define THE_ONESHOTS (READABLE(i) || (n[i].holder == NONE && n[i].waiter))
#define THE_DAEMONS THE_ONESHOTS
#else
#define THE_ONESHOTS (n[i].holder == OLD) /* an entry of this boot is the daemon's, so is a place in the room */
#define THE_DAEMONS (n[i].holder == THIS || (n[i].holder == NONE && n[i].waiter))
#endif

/* ---- A node by itself ------------------------------------------------------------------------------------------------------ */
proctype Kured(byte i) {
end:	do :: atomic { if
	/* -- the machine -- */
	:: n[i].power == UP && n[i].going -> goes_down(i)
	:: n[i].power == DOWN -> boots(i)

	/* -- Runner.learn and Decide, in one step -- */
	:: RUNS(LEARN) && n[i].exists ->
		if :: n[i].holder != THIS -> n[i].drained = 0 :: else fi;
		if
		:: n[i].olduid -> n[i].olduid = 0 /* "connecting anew" */
		:: !n[i].olduid && n[i].holder == GARBLED -> n[i].pc = HELD
		:: !n[i].olduid && REBOOTED -> n[i].pc = AWAIT
		:: !n[i].olduid && n[i].holder == NONE && n[i].mark == THIS ->
#ifdef FORGET_MARK
			rests(i)
#else
			n[i].pc = LOST
#endif
		/* decideHolding */
		:: !n[i].olduid && n[i].holder == THIS && !MID -> n[i].pc = GOING
		:: !n[i].olduid && MID && (!n[i].want || n[i].stale) -> n[i].pc = BACK
		:: !n[i].olduid && MID && n[i].want && !n[i].stale ->
			if
			:: TROUBLE -> PAY; n[i].pc = BACK
			:: !n[i].cordon -> n[i].pc = HOLDS
			:: n[i].cordon && !n[i].drained -> n[i].pc = DRAIN
			:: n[i].cordon && n[i].drained -> n[i].pc = FENCE
			fi
		/* decideFree */
		:: !n[i].olduid && n[i].holder == NONE && n[i].mark == NONE ->
			if
			/* Lock.Read counts a take that may yet land as a place in the room. */
			:: !n[i].want && !n[i].waiter && !UNANSWERED -> rests(i)
			:: !n[i].want && (n[i].waiter || UNANSWERED) -> n[i].pc = FREE /* LeaveRoom */
			:: n[i].want && TROUBLE -> PAY; n[i].want = 0; if :: n[i].waiter || UNANSWERED -> n[i].pc = FREE :: else -> rests(i) fi
			:: n[i].want -> n[i].pc = ACQUIRE
			fi
		fi

	/* -- Lock.Acquire: acquisition.step. While there is nothing to do it blocks: wait. -- */
#ifdef HOLD_ANY_BOOT
	:: RUNS(ACQUIRE) && READABLE(i) -> n[i].drained = 0; n[i].pc = HOLDS /* Hold */
#else
	:: RUNS(ACQUIRE) && STILL_OURS -> n[i].drained = 0; n[i].pc = HOLDS /* Hold */
	:: RUNS(ACQUIRE) && READABLE(i) && !STILL_OURS -> n[i].pc = LEARN /* ErrOther */
#endif
	:: RUNS(ACQUIRE) && n[i].holder == GARBLED -> n[i].pc = LEARN /* Stuck */
	:: RUNS(ACQUIRE) && TROUBLE -> PAY; n[i].pc = FREE /* a gate closes: LeaveRoom */
	:: RUNS(ACQUIRE) && n[i].holder == NONE && FREE_SLOT(i) && MY_TURN(i) -> n[i].pc = TAKE
	:: RUNS(ACQUIRE) && n[i].holder == NONE && !n[i].waiter && ROOM_LEFT -> n[i].waiter = 1; moved() /* join */
	:: RUNS(ACQUIRE) && n[i].holder == NONE && (BURIABLE(i, 0) || BURIABLE(i, 1) || BURIABLE(i, 2)) -> n[i].pc = BURY
#ifdef BY_NAME
	:: RUNS(ACQUIRE) && i != 0 && !n[0].exists -> n[i].rumour = 1
	:: RUNS(ACQUIRE) && i != 1 && !n[1].exists -> n[i].rumour = 2
	:: RUNS(ACQUIRE) && i != 2 && !n[2].exists -> n[i].rumour = 3
#endif
	/* The write. That others wrote in between (ErrConflict) has brought us back to ACQUIRE: see moved. */
	:: RUNS(TAKE) -> put_holder(i, THIS); n[i].pc = HOLDS
	:: RUNS(TAKE) && FAULT -> faults--; put_holder(i, THIS); n[i].pc = ACQUIRE /* applied, the answer lost */
	:: RUNS(TAKE) && FAULT -> faults--; put_holder(i, THIS); n[i].pc = FREE /* the same, and a gate closes as it waits for it */
	:: RUNS(TAKE) && TROUBLE -> PAY; n[i].pc = FREE /* a gate closes before */
#ifdef LATE
	:: RUNS(TAKE) && FAULT && n[i].late == NOTHING -> faults--; n[i].late = L_TAKE; n[i].pc = FREE
	:: RUNS(TAKE) && FAULT && n[i].late == NOTHING -> faults--; n[i].late = L_TAKE; n[i].pc = ACQUIRE
#endif
	:: RUNS(BURY) -> bury(i, 0); bury(i, 1); bury(i, 2); moved(); n[i].pc = ACQUIRE

	/* -- Runner.cordon -- */
	:: RUNS(HOLDS) && TROUBLE -> PAY; n[i].pc = BACK
	:: RUNS(HOLDS) && n[i].exists -> set_cordon(i); n[i].drained = 0; n[i].pc = DRAIN
	:: RUNS(HOLDS) && !n[i].exists -> n[i].pc = LEARN /* node.ErrNotFound */

	/* -- Runner.drain: Lock.Advance(draining), then Pods.Drain; then it looks again: did somebody undo the cordon? -- */
	:: RUNS(DRAIN) && !STILL_OURS -> n[i].pc = LEARN /* ErrLost, ErrUnreadable */
	:: RUNS(DRAIN) && STILL_OURS -> advance(i, DRAINING); n[i].drained = 1; n[i].pc = LEARN
	:: RUNS(DRAIN) && STILL_OURS && TROUBLE -> PAY; advance(i, DRAINING); n[i].pc = BACK /* drain timeout, a gate closes */
	:: RUNS(DRAIN) && TROUBLE -> PAY; n[i].pc = LEARN /* the API server does not answer */

	/* -- Runner.reboot. The fence is Lock.Advance(rebooting): a quorum read, and a write by compare-and-swap. -- */
#ifdef NO_FENCE
	:: RUNS(FENCE) -> n[i].pc = CALL
#else
	:: RUNS(FENCE) && !STILL_OURS -> n[i].pc = LEARN
	:: RUNS(FENCE) && STILL_OURS -> fence(i); n[i].pc = CALL
	:: RUNS(FENCE) && STILL_OURS && FAULT -> faults--; fence(i); n[i].pc = LEARN
	:: RUNS(FENCE) && TROUBLE -> PAY; n[i].pc = LEARN
#endif
	/* The call itself cannot be part of the fence: whom an admin releases in between (or whose Node is deleted and whose entry
	 * is buried in between) goes down all the same. That is `pardon`; ADMIN_IS_NO_EXCUSE shows it. */
	:: RUNS(CALL) ->
#ifdef ADMIN_IS_NO_EXCUSE
		no_reboot_without_lock = (n[i].holder == THIS || n[i].holder == GARBLED);
#else
		no_reboot_without_lock = (n[i].holder == THIS || n[i].holder == GARBLED || n[i].pardon);
#endif
		assert(no_reboot_without_lock);
		n[i].pardon = 0; n[i].going = 1; n[i].pc = GOING
	:: RUNS(CALL) && TROUBLE -> PAY; n[i].pardon = 0; n[i].pc = LEARN /* a gate has closed */
	:: RUNS(CALL) && TROUBLE -> PAY; n[i].pardon = 0; n[i].pc = BACK /* RefusedError, ErrUnconfirmed */
	:: RUNS(GOING) && n[i].going && TROUBLE -> PAY; n[i].going = 0; n[i].pc = BACK /* cancelled, by logind's word */

	/* -- Runner.rollBack and giveBack: uncordon ours, then Lock.Release. LeaveRoom is the second half of it. -- */
	:: RUNS(BACK) && !n[i].exists -> n[i].pc = LEARN
#ifdef FREE_FIRST
	:: RUNS(BACK) && n[i].exists -> n[i].pc = FREE
#else
#ifdef ROLLBACK_KEEPS_LOCK
	:: RUNS(BACK) && n[i].exists -> lift_cordon(i); rests(i)
#else
	:: RUNS(BACK) && n[i].exists -> lift_cordon(i); n[i].pc = FREE
#endif
#endif
	/* A release removes only the entry of the boot that was looked at, and the place in the room. */
	:: RUNS(FREE) && !THE_DAEMONS && !UNANSWERED -> n[i].pc = LEARN
	/* A take of this process may still land. Any write makes it void: it joins, and takes that back in the next round. */
	:: RUNS(FREE) && !THE_DAEMONS && UNANSWERED -> n[i].waiter = 1; moved()
	:: RUNS(FREE) && THE_DAEMONS ->
		/* Whether the answer arrives makes no difference: it learns anyway. */
		reboot_unverified_keeps_lock = (n[i].holder != OLD);
		assert(reboot_unverified_keeps_lock);
		cordoned_by_us_only_while_holding = (n[i].holder == NONE || n[i].mark == NONE);
		assert(cordoned_by_us_only_while_holding);
		n[i].holding = 0; remove_keys(i); n[i].pc = LEARN
	/* The API server does not answer. Then it connects anew, and learns. */
#ifdef CONNECT_FORGETS
	:: RUNS(FREE) && TROUBLE -> PAY; forgets_write(i); n[i].pc = LEARN
#else
	:: RUNS(FREE) && TROUBLE -> PAY; n[i].pc = LEARN
#endif
#ifdef LATE
	:: RUNS(FREE) && THE_DAEMONS && n[i].holder != NONE && FAULT && n[i].late == NOTHING -> faults--; n[i].late = L_FREE; n[i].pc = LEARN
#endif

	/* -- Runner.uncordon: an admin released us. Runner.lookAgain: until something is different. -- */
	:: RUNS(LOST) -> if :: n[i].exists -> lift_cordon(i) :: else fi; n[i].pc = LEARN
	:: RUNS(AWAIT) && !REBOOTED -> n[i].pc = LEARN
	:: RUNS(HELD) && n[i].holder != GARBLED -> n[i].pc = LEARN

	/* -- `kured uncordon` after boot, beside the daemon: decideReturn, Runner.verify, Runner.comeBack -- */
	:: RETURNS(R_LEARN) && n[i].exists && n[i].holder != GARBLED ->
		if :: COMES_BACK -> n[i].ret = R_BACK :: else -> n[i].ret = R_OFF fi
	:: RETURNS(R_BACK) -> if :: n[i].exists -> lift_cordon(i); n[i].ret = R_FREE :: else -> n[i].ret = R_LEARN fi
	:: RETURNS(R_FREE) && !THE_ONESHOTS -> n[i].ret = R_LEARN
	:: RETURNS(R_FREE) && THE_ONESHOTS ->
		back_in_service_only_after_reboot = (n[i].holder != THIS);
		assert(back_in_service_only_after_reboot);
		cordoned_by_us_only_while_holding = (n[i].holder == NONE || n[i].mark == NONE);
		assert(cordoned_by_us_only_while_holding);
		n[i].holding = 0; remove_keys(i); n[i].ret = R_OFF
	:: RETURNS(R_FREE) && THE_ONESHOTS && FAULT -> faults--; n[i].holding = 0; remove_keys(i); n[i].ret = R_LEARN /* no answer */
	:: RETURNS(R_FREE) && TROUBLE -> PAY; n[i].ret = R_LEARN
#ifdef LATE
	:: RETURNS(R_FREE) && THE_ONESHOTS && FAULT && n[i].late == NOTHING -> faults--; n[i].late = L_FREE; n[i].ret = R_LEARN
#endif
	fi; same_again() } od
}

/* A kubelet that is started anew registers its Node when that is gone; the kubelet has no part in what Kured does. */
#define REGISTERS(i) :: atomic { n[i].power == UP && !n[i].exists -> n[i].exists = 1; same_again() }
proctype Kubelets() {
end:	do
	REGISTERS(0)
	REGISTERS(1)
	REGISTERS(2)
	od
}

/* ---- What is done to the nodes. Each costs one of the faults; only the sentinel is free. ------------------------------------ */
#ifdef ONCE
#define WORLD_MOVES (FAULT || n[0].late != NOTHING || n[1].late != NOTHING || n[2].late != NOTHING)
#else
#define WORLD_MOVES true
#endif
proctype World() {
	byte i;
end:	do
	:: atomic { FAULT -> faults = 0 } /* peace at last */
	:: atomic { WORLD_MOVES ->
		if :: i = 0 :: i = 1 :: i = 2 fi;
		if
#ifndef ONCE
		:: RUNS(IDLE) -> n[i].want = 1; n[i].pc = LEARN /* the sentinel appears, and wakes the daemon */
#endif
#ifndef NO_KILL
		/* The daemon is killed, or its unit started anew. A start that comes late is a step that is taken late. */
		:: FAULT && n[i].power == UP -> faults--; restarts(i)
		:: FAULT && n[i].power == UP && n[i].ret > R_LEARN -> faults--; n[i].ret = R_LEARN
#endif
#ifndef NO_CUT
		:: FAULT && n[i].power == UP -> faults--; goes_down(i) /* a power cut, or somebody else reboots it */
		:: FAULT && n[i].power == DOWN -> faults--; n[i].power = DEAD
#endif
#ifndef NO_ADMIN
		:: FAULT && n[i].holder != NONE -> faults--; taken_away(i); n[i].holding = 0; remove_keys(i) /* kured lock release */
#endif
#ifndef NO_DELETE
		/* kubectl delete node: cordon and mark go with the object. */
		:: FAULT && n[i].exists -> faults--;
			n[i].exists = 0; n[i].cordon = 0; n[i].mark = NONE; n[i].person = 0;
			n[i].holding = 0; n[i].olduid = (n[i].power == UP);
			n[i].stale = (READABLE(i))
#endif
#ifndef NO_DAMAGE
		/* The entry becomes one that cannot be read: a newer kured, or somebody's edit. */
		:: FAULT && READABLE(i) -> faults--; n[i].holder = GARBLED; n[i].phase = LOCKED; n[i].stale = 0; moved()
#endif
#ifndef NO_PERSON
		:: FAULT && n[i].exists && !n[i].cordon && n[i].mark == NONE -> faults--; n[i].cordon = 1; n[i].person = 1
		:: FAULT && n[i].exists && n[i].cordon -> faults--; n[i].cordon = 0; n[i].person = 0
#endif
#ifndef NO_DRIFT
		/* Another lock.max_concurrent, and the restart that reads it. */
		:: FAULT && n[i].power == UP -> faults--; n[i].own = 3 - n[i].own; restarts(i)
#endif
#ifdef LATE
		:: n[i].late == L_TAKE || n[i].late == L_STRAY -> put_holder(i, THIS)
		:: n[i].late == L_OLD -> put_holder(i, OLD)
		:: n[i].late == L_FREE -> n[i].holding = 0; remove_keys(i)
#endif
		:: else
		fi;
		i = 0;
		same_again() }
	od
}

/* ---- What must come true -------------------------------------------------------------------------------------------------- */
#define ASKS(i) (n[i].power == UP && n[i].pc >= ACQUIRE && n[i].pc <= BURY)
/* Slots are counted here as they ought to be, whatever rule is broken above. */
#define LIVE(m) (n[m].holder == GARBLED || (n[m].holder != NONE && !n[m].stale))
#define LETS(m, used) (n[m].holder == NONE || (READABLE(m) && (n[m].stale || n[m].max > used)))
#define SLOT(i, a, b) (n[i].holder == NONE && n[i].own > LIVE(a) + LIVE(b) && LETS(a, LIVE(a) + LIVE(b)) && LETS(b, LIVE(a) + LIVE(b)))
#define SLOT_LIES_IDLE ((ASKS(0) && SLOT(0, 1, 2)) || (ASKS(1) && SLOT(1, 0, 2)) || (ASKS(2) && SLOT(2, 0, 1)))
/* A node that is up and well, and something of ours is on it. An entry that cannot be read is held loudly. */
#define BUSY(i) (n[i].power == UP && n[i].exists && n[i].holder != GARBLED && (n[i].holder != NONE || n[i].mark != NONE))

#define SOMEBODY_TAKES (n[0].pc == HOLDS || n[1].pc == HOLDS || n[2].pc == HOLDS)

/* A slot does not lie idle for ever while somebody who lives asks for it: somebody takes, and again and again. It need not be
 * the same one each time: with compare-and-swap one node can lose to others for ever, with probability 0. */
#ifdef SERVED
ltl every_free_slot_is_taken { [] <> (!SLOT_LIES_IDLE || SOMEBODY_TAKES) }
#endif
#ifdef ENDS /* nobody is busy for ever */
ltl every_cycle_ends { ([] <> !BUSY(0)) && ([] <> !BUSY(1)) && ([] <> !BUSY(2)) }
#endif

/* With ONCE everything comes to rest, and then all must be in order: who lives has nothing of ours and idles; or is held
 * with a loud reason; or waits for a slot that nobody can give to it. */
#define AT_REST(i) (n[i].power == DEAD \
	|| (n[i].pc == IDLE && n[i].ret == R_OFF && !n[i].want && n[i].holder == NONE && !n[i].waiter && n[i].mark == NONE) \
	|| (n[i].pc == HELD && n[i].holder == GARBLED) \
	|| (n[i].pc == ACQUIRE && n[i].mark == NONE && n[i].ret == R_OFF))
#ifdef ONCE
proctype Rest() {
end:	timeout ->
	nothing_is_silently_stuck = (AT_REST(0) && AT_REST(1) && AT_REST(2) && !SLOT_LIES_IDLE);
	assert(nothing_is_silently_stuck)
}
#endif

init {
	atomic {
		n[0].exists = 1; n[1].exists = 1; n[2].exists = 1;
		n[0].own = MAX0; n[1].own = MAX1; n[2].own = MAX2;
#ifdef ONCE
		n[0].want = 1; n[1].want = 1; n[2].want = 1;
		n[0].pc = LEARN; n[1].pc = LEARN; n[2].pc = LEARN;
#endif
		run Kured(0); run Kured(1); run Kured(2);
		run Kubelets();
		run World();
#ifdef ONCE
		run Rest()
#endif
	}
}
