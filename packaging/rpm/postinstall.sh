# $1: 1 first installation, 2 or more upgrade. Works in an image build, where no systemd runs.
systemd-sysusers kured.conf >/dev/null 2>&1 || :
journalctl --update-catalog >/dev/null 2>&1 || :
if [ "$1" -eq 1 ]; then
	# /usr/lib/systemd/system-preset/80-kured.preset enables both; an administrator's own preset wins.
	systemctl --no-reload preset kured.service kured-uncordon.service >/dev/null 2>&1 || :
fi
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload >/dev/null 2>&1 || :
	# The daemon only: kured-uncordon.service belongs to the boot.
	if [ "$1" -eq 1 ] && systemctl --quiet is-enabled kured.service 2>/dev/null; then
		systemctl start kured.service || :
	fi
fi
exit 0
