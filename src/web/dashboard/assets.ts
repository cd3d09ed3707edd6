/** The page's script and style sheet as the build made them, under names that change with what is in them. */

import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { asset } from '../../base/entry-point.ts';
import { LitestreamError } from '../../base/errors.ts';

export interface Asset {
  /** `dashboard-1a2b3c4d.js`. */
  readonly name: string;
  readonly contentType: string;
  readonly body: string;
}

export interface Assets {
  readonly script: Asset;
  readonly style: Asset;
}

/** From the place of this module: in the bundled command, in the compiled library, and in the sources. */
const FOLDERS = ['./dashboard/', '../dashboard/', '../../dashboard/', '../../../dist/dashboard/'];

let loaded: Assets | undefined;

/** Read once. @throws LitestreamError 'not-found' when the package was not built */
export function dashboardAssets(): Assets {
  loaded ??= {
    script: load('dashboard.js', 'text/javascript; charset=utf-8'),
    style: load('dashboard.css', 'text/css; charset=utf-8'),
  };
  return loaded;
}

/** An asset of the options: a style sheet or a picture. */
export function ownAsset(name: string, contentType: string, body: string): Asset {
  const dot = name.lastIndexOf('.');
  const hash = createHash('sha256').update(body).digest('hex').slice(0, 12);
  return { name: `${name.slice(0, dot)}-${hash}${name.slice(dot)}`, contentType, body };
}

function load(file: 'dashboard.js' | 'dashboard.css', contentType: string): Asset {
  const embedded = asset(file);
  if (embedded !== undefined) return ownAsset(file, contentType, embedded);
  for (const folder of FOLDERS) {
    const url = new URL(folder + file, import.meta.url);
    if (existsSync(url)) return ownAsset(file, contentType, readFileSync(url, 'utf8'));
  }
  throw new LitestreamError('not-found', `${file} is not there: the package was not built (npm run build)`);
}
