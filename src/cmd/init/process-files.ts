/** Deployment files for processes on a server: systemd and a Procfile. */

import { posix } from 'node:path';
import { type Deployment, STOP_SECONDS, restoreCommands } from './deployment.ts';

/** A unit for /etc/systemd/system. */
export function systemdUnit({ name, root, configFile, user }: Deployment): string {
  const config = unitWord(posix.resolve(root, configFile));
  return `# For /etc/systemd/system/litestream-${name}.service. Secrets: NAME=value lines in /etc/default/litestream, mode 0600.
[Unit]
Description=Litestream replication of ${name}
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
${user === undefined ? '# User=, Group=: who runs the application.' : `User=${user}`}
WorkingDirectory=${root.replaceAll('%', '%%')}
EnvironmentFile=-/etc/default/litestream
ExecStart=/usr/bin/litestream replicate -config ${config}
Restart=always
RestartSec=5
# The last changes are stored before it ends; a command of -exec is told by litestream.
TimeoutStopSec=${STOP_SECONDS}
KillMode=mixed
# What is remembered of databases on read-only volumes, and of SFTP servers.
StateDirectory=litestream
StateDirectoryMode=0700
NoNewPrivileges=true
ProtectKernelTunables=true
ProtectKernelModules=true
ProtectKernelLogs=true
ProtectControlGroups=true
ProtectClock=true
RestrictRealtime=true
RestrictSUIDSGID=true
LockPersonality=true
SystemCallArchitectures=native
${user === undefined ? '' : 'CapabilityBoundingSet=\n'}
[Install]
WantedBy=multi-user.target
`;
}

/** A Procfile: the application after the restore of what is missing, and replication beside it. */
export function procfile({ configFile, databases, command, root }: Deployment): string {
  const paths = databases.map((path) => posix.relative(root, path));
  const inProject = paths.every((path) => !path.startsWith('..'));
  const restores = restoreCommands(inProject ? paths : databases, ['-config', configFile]);
  return `web: ${[...restores, `exec ${command}`].join(' && ')}
litestream: litestream replicate -config ${configFile}
`;
}

/** One word of a command line in a unit. */
function unitWord(text: string): string {
  const escaped = text.replaceAll('%', '%%').replaceAll('$', '$$$$');
  return /^[\w./@:+%-]+$/.test(text) ? escaped : `"${escaped.replace(/["\\]/g, '\\$&')}"`;
}
