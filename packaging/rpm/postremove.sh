# $1: 0 last version erased, 1 upgrade (this runs after the new version's scriptlets). A restart continues an
# unfinished cycle; a daemon that the administrator stopped stays stopped.
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload >/dev/null 2>&1 || :
	if [ "$1" -ge 1 ]; then
		systemctl try-restart kured.service >/dev/null 2>&1 || :
	fi
fi
exit 0
