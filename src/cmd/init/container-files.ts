/** Deployment files for containers: Kamal, Docker, Kubernetes. */

import { type Deployment, STOP_SECONDS, restoreCommands, shellWord, volumesOf } from './deployment.ts';

/** An accessory for config/deploy.yml. */
export function kamalAccessory(deployment: Deployment): string {
  const { image, configFile, variables, name, volumes } = deployment;
  const mounts = volumesOf(deployment).map(
    ({ folder, name: suffix }) => `      - "${volumes.get(folder) ?? `${name}_${suffix}`}:${folder}"\n`,
  );
  const secrets = variables.map((variable) => `        - ${variable.name}\n`);
  return `# For config/deploy.yml. Build and push the image once: etc/docker/Dockerfile of litestream-ts.
accessories:
  litestream:
    image: ${image}
    host: SERVER_IP
    cmd: replicate
    volumes:
      # The application's volume, by the name that it has there.
${mounts.join('')}      # To mount it read-only, write :ro behind it and add a place for state (docs/deploy/read-only.md):
      # - "litestream_state:/var/lib/litestream"
    files:
      - ${configFile}:/etc/litestream.yml
    env:
      secret:
${secrets.join('')}    options:
      # Exits 1 when a backup is not being made.
      health-cmd: "litestream databases || exit 1"
      health-interval: 30s
      health-timeout: 5s
      health-retries: 3
      # The last changes are stored before it ends.
      stop-timeout: ${STOP_SECONDS}
`;
}

/** Lines for the Dockerfile of the application. */
export function dockerLines({ image, configFile, databases, command }: Deployment): string {
  const restores = restoreCommands(databases).map((line) => `${line} \\\n && `);
  return `# For the end of the application's Dockerfile. Build the image once: etc/docker/Dockerfile of litestream-ts.
COPY --from=${image} /opt/litestream /opt/litestream
ENV PATH=/opt/litestream/bin:$PATH
COPY ${configFile} /etc/litestream.yml
# Restores what is missing, then runs the application beside replication.
# Leave it time to store the last changes: docker stop --time ${STOP_SECONDS}
CMD ${restores.join('')}exec litestream replicate -exec ${shellWord(command)}
`;
}

/** A StatefulSet of one pod. */
export function kubernetesManifest(deployment: Deployment): string {
  const { name, image, databases, variables, configFile } = deployment;
  const volumes = volumesOf(deployment);
  const mounts = volumes.map(
    (volume) => `            - { name: ${volume.name}, mountPath: ${volume.folder} }\n`,
  );
  const env = variables.map(
    (variable) => `            - name: ${variable.name}
              valueFrom: { secretKeyRef: { name: litestream, key: ${variable.name} } }
`,
  );
  // The first container spells out what the others repeat.
  const shared = `          env: &env
${env.join('')}          volumeMounts: &mounts
            - { name: litestream-config, mountPath: /etc/litestream.yml, subPath: litestream.yml }
${mounts.join('')}`;
  const repeated = '          env: *env\n          volumeMounts: *mounts\n';
  const restores = databases.map((path, i) => {
    const args = ['restore', '-if-db-not-exists', '-if-replica-exists', path];
    return `        - name: restore${i === 0 ? '' : `-${i + 1}`}
          image: ${image}
          args: ${JSON.stringify(args)}
${i === 0 ? shared : repeated}`;
  });
  const literals = variables.map((variable) => ` --from-literal=${variable.name}=...`);
  return `# One pod: a database has one machine that writes it. Before it:
#   kubectl create configmap litestream --from-file=litestream.yml=${configFile}
#   kubectl create secret generic litestream${literals.join('')}
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: ${name}
spec:
  replicas: 1
  serviceName: ${name}
  selector:
    matchLabels: { app: ${name} }
  template:
    metadata:
      labels: { app: ${name} }
    spec:
      terminationGracePeriodSeconds: ${STOP_SECONDS + 10}
      securityContext: { runAsUser: 1000, runAsGroup: 1000, fsGroup: 1000 }
      initContainers:
        # On an empty volume, before the application makes an empty database.
${restores.join('')}        # A sidecar (Kubernetes 1.29 or later): starts before the application and ends after it. It has no probes: a store
        # that cannot be reached is no reason to stop the application. Watch \`litestream databases\` or the metrics.
        - name: litestream
          image: ${image}
          args: ["replicate"]
          restartPolicy: Always
${repeated}      containers:
        - name: app
          image: APPLICATION_IMAGE
          volumeMounts:
${mounts.join('')}      volumes:
        - name: litestream-config
          configMap: { name: litestream }
  volumeClaimTemplates:
${volumes.map((volume) => claimTemplate(volume.name)).join('')}`;
}

function claimTemplate(name: string): string {
  return `    - metadata: { name: ${name} }
      spec:
        accessModes: ["ReadWriteOnce"]
        resources: { requests: { storage: 10Gi } }
`;
}
