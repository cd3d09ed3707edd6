// How the program is bundled, for the build and for tests that build a changed copy of it.
import { builtinModules } from 'node:module';

/**
 * CommonJS packages get Node.js's own modules by import, as the rest does: an ES module has no require().
 * Parts that must be compiled are not there: ssh2 does without them.
 */
const commonJs = {
  name: 'commonjs',
  setup(build) {
    const builtin = new RegExp(`^(node:)?(${builtinModules.join('|')})$`);
    build.onResolve({ filter: builtin }, ({ path, kind, namespace }) =>
      kind === 'require-call' && namespace !== 'builtin'
        ? { path: path.replace(/^node:/, ''), namespace: 'builtin' }
        : { path: path.startsWith('node:') ? path : `node:${path}`, external: true },
    );
    build.onLoad({ filter: /.*/, namespace: 'builtin' }, ({ path }) => ({
      contents: `module.exports = require('imported:${path}').default;`,
    }));
    build.onResolve({ filter: /^imported:/ }, ({ path }) => ({
      path: path.slice('imported:'.length),
      namespace: 'imported',
    }));
    build.onLoad({ filter: /.*/, namespace: 'imported' }, ({ path }) => ({
      contents: `export { default } from 'node:${path}';`,
    }));
    // A chunk of a CommonJS package that is imported when it is needed has nothing but a default.
    build.onResolve({ filter: /^https-proxy-agent$/ }, ({ path, kind, resolveDir }) =>
      kind === 'dynamic-import' ? { path, namespace: 'named', pluginData: resolveDir } : undefined,
    );
    build.onLoad({ filter: /.*/, namespace: 'named' }, ({ path, pluginData }) => ({
      contents: `export { HttpsProxyAgent } from '${path}';`,
      resolveDir: pluginData,
    }));
    build.onResolve({ filter: /\.node$|^cpu-features$/ }, ({ path }) => ({ path, namespace: 'compiled' }));
    build.onLoad({ filter: /.*/, namespace: 'compiled' }, ({ path }) => ({
      contents: `throw new Error(${JSON.stringify(`${path} is not part of this package`)});`,
    }));
  },
};

/** Everything but entry points and places. */
export const OPTIONS = {
  bundle: true,
  splitting: true,
  format: 'esm',
  // Not 'node': that picks the CommonJS build of yaml, which loads more slowly.
  platform: 'neutral',
  mainFields: ['module', 'main'],
  target: 'node20',
  // ssh2's own WebAssembly looks for its folder, and does not use it: the code is in the script.
  define: { __dirname: '""' },
  plugins: [commonJs],
};
