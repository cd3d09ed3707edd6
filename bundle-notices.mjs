// What the packages in a bundle require of those who pass them on, and what an audit of them needs.
import { readFileSync, readdirSync } from 'node:fs';

const MIT = `Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.`;

/** Of packages that name their license but do not bring its text. */
const TEXTS = { MIT, 'Apache-2.0': readFileSync(new URL('LICENSE', import.meta.url), 'utf8').trim() };

/** The packages of which something is in the bundle, by name and version, with the texts of their licenses. */
export function bundledPackages(...metafiles) {
  const parts = metafiles.flatMap(({ outputs }) => Object.values(outputs).map(({ inputs }) => inputs));
  const used = parts.flatMap((inputs) =>
    Object.keys(inputs).filter((file) => inputs[file].bytesInOutput > 0),
  );
  // A package may stand within another one.
  const folders = new Set(used.map((file) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(file)?.[0]));
  folders.delete(undefined);
  const packages = new Map();
  for (const folder of folders) {
    const description = JSON.parse(readFileSync(`${folder}/package.json`, 'utf8'));
    const { name, version, author } = description;
    // Some still name it as npm once had it.
    const license = description.license ?? description.licenses.map(({ type }) => type).join(' OR ');
    packages.set(`${name} ${version}`, { name, version, license, texts: texts(folder, license, author) });
  }
  return [...packages].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, each]) => each);
}

function texts(folder, license, author) {
  const files = readdirSync(folder).filter((file) => /^(license|licence|copying|notice)/i.test(file));
  if (files.length > 0) return files.map((file) => readFileSync(`${folder}/${file}`, 'utf8').trim());
  if (!(license in TEXTS))
    throw new Error(`${folder} has no text of its license (${license}): add it to TEXTS`);
  const holder = typeof author === 'string' ? author : author?.name;
  return [`Copyright (c) ${holder ?? 'its authors'}`, TEXTS[license]];
}

export function notices(packages) {
  return packages
    .map(({ name, version, license, texts }) => [`${name} ${version} (${license})`, ...texts].join('\n\n'))
    .join(`\n\n${'-'.repeat(80)}\n\n`);
}
