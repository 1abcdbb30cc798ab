# $1: 0 last version erased, 1 upgrade. On erase nothing unfinished stays behind: no cordon, no held lock.
if [ "$1" -eq 0 ]; then
	if [ -d /run/systemd/system ]; then
		# First, because a scrape would start the daemon again.
		systemctl stop kured-metrics.socket >/dev/null 2>&1 || :
		systemctl stop kured.service kured-uncordon.service >/dev/null 2>&1 || :
		timeout --kill-after=5 30 /usr/bin/kured uncordon --abandon --timeout=25s ||
			echo "kured: if this node was about to reboot, it may still be cordoned and hold the lock; see: kubectl get node, and kubectl -n kube-system get configmap kured-lock" >&2
	fi
	# The sentinel sources and the socket, which only an administrator enables.
	if [ -d /run/systemd/system ]; then
		systemctl stop kured-needs-restarting.path kured-sentinel-command.path kured-sentinel-command.timer kured-kernel.path kured-renew.timer kured-needs-restarting.service kured-sentinel-command.service kured-kernel.service kured-renew.service >/dev/null 2>&1 || :
	fi
	systemctl --no-reload disable kured-metrics.socket kured-needs-restarting.path kured-sentinel-command.path kured-sentinel-command.timer kured-kernel.path kured-renew.timer >/dev/null 2>&1 || :
	systemctl --no-reload disable kured.service kured-uncordon.service >/dev/null 2>&1 || :
fi
exit 0
