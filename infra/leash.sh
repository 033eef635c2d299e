#!/bin/sh
# Runs a command that must not outlive whoever holds this script's standard input.
#
#   leash.sh DIRECTORY COMMAND...
#
# Writes the command's process id to file descriptor 3. When standard input ends, which the kernel sees to even
# when its holder is killed by SIGKILL, the command is killed, and its DIRECTORY removed because nobody else is
# left to do it. When the command ends first, this script ends with its exit code and leaves DIRECTORY alone.
directory=$1
shift
exec 4<&0
"$@" </dev/null 3>&- 4<&- &
child=$!
echo "$child" >&3
exec 3>&-
(
  while read -r _ <&4; do :; done
  : >"$directory/abandoned"
  kill -9 "$child"
) >/dev/null 2>&1 &
reader=$!
exec 4<&-
wait "$child"
code=$?
if [ -e "$directory/abandoned" ]; then
  rm -rf "$directory"
  # The folder that an ensemble's servers share goes with the last of them.
  rmdir "$(dirname "$directory")" 2>/dev/null
else
  kill "$reader" 2>/dev/null
fi
exit "$code"
