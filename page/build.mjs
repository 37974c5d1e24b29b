// Builds the page into dist/: one script, one style, one document that names them by their hashes, each also compressed.
//
//   node build.mjs           once, small
//   node build.mjs --watch   again at every change, readable
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import { context } from "esbuild";

const dist = new URL("dist/", import.meta.url).pathname;
const watches = process.argv.includes("--watch");

function clear() {
  for (const name of readdirSync(dist)) if (name !== ".gitignore") rmSync(dist + name, { recursive: true });
  mkdirSync(dist + "assets");
}

function put(name, bytes) {
  writeFileSync(dist + name, bytes);
  const packed = brotliCompressSync(bytes, {
    params: { [constants.BROTLI_PARAM_QUALITY]: watches ? 4 : 11, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length },
  });
  writeFileSync(`${dist}${name}.br`, packed);
  writeFileSync(`${dist}${name}.gz`, gzipSync(bytes, { level: 9 }));
  return packed.length;
}

const write = {
  name: "write",
  setup(build) {
    build.onEnd((result) => {
      if (result.errors.length > 0) return;
      clear();
      let document = readFileSync(new URL("src/index.html", import.meta.url), "utf8");
      let total = 0;
      for (const file of result.outputFiles) {
        const kind = file.path.split(".").at(-1);
        const hash = createHash("sha256").update(file.contents).digest("base64url").replace(/[^A-Za-z0-9]/g, "").slice(0, 12);
        const name = `assets/page-${hash}.${kind}`;
        total += put(name, file.contents);
        document = document.replace(`{page.${kind}}`, `/ui/${name}`);
      }
      total += put("index.html", Buffer.from(document));
      total += put("icon.svg", readFileSync(new URL("src/icon.svg", import.meta.url)));
      console.log(`built: ${(total / 1024).toFixed(1)} KiB compressed`);
    });
  },
};

const building = await context({
  entryPoints: { page: new URL("src/main.tsx", import.meta.url).pathname },
  outdir: dist,
  bundle: true,
  write: false,
  minify: !watches,
  sourcemap: watches ? "inline" : false,
  format: "esm",
  target: ["es2022"],
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "none",
  logLevel: "info",
  plugins: [write],
});
if (watches) {
  await building.watch();
} else {
  await building.rebuild();
  await building.dispose();
}
