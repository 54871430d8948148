#!/bin/sh
printf 'Content-Type: text/plain\r\n\r\n'
echo "Hostname: $(hostname)"
ip -o addr | awk '{ sub("/.*", "", $4); print "IP: " $4 }'
echo "RemoteAddr: $REMOTE_ADDR:$REMOTE_PORT"
echo "$REQUEST_METHOD $REQUEST_URI $SERVER_PROTOCOL"
