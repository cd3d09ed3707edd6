/** The deployment files that `init` can print, by their flags. */

import { dockerLines, kamalAccessory, kubernetesManifest } from './container-files.ts';
import type { Deployment } from './deployment.ts';
import { procfile, systemdUnit } from './process-files.ts';
import type { Project } from './project.ts';

export interface DeploymentKind {
  readonly print: (deployment: Deployment) => string;
  /** Where the project is on the machine that replicates, unless `-root` says so. */
  readonly root: (project: Project) => string;
  /**
   * The databases are on volumes of a container, which sees the config elsewhere: it has absolute paths. Otherwise they
   * are relative to the project, in which litestream is started.
   */
  readonly mounts: boolean;
}

const container = { root: ({ rails }: Project) => (rails ? '/rails' : '/app'), mounts: true };
const server = { root: ({ folder }: Project) => folder, mounts: false };

export const DEPLOYMENTS: Readonly<
  Record<'kamal' | 'systemd' | 'docker' | 'k8s' | 'procfile', DeploymentKind>
> = {
  kamal: { ...container, print: kamalAccessory },
  systemd: { ...server, print: systemdUnit },
  docker: { ...container, print: dockerLines },
  k8s: { ...container, print: kubernetesManifest },
  procfile: { ...server, print: procfile },
};

export type DeploymentName = keyof typeof DEPLOYMENTS;
