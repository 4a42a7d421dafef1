// Pages that are opened from a folder may not start workers, and the search is one. There, a hidden frame does its work.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      this.frame = frame;
      window.addEventListener("message", (event) => {
        if (event.source !== frame.contentWindow) return;
        const message = new MessageEvent("message", { data: event.data });
        this.dispatchEvent(message);
        this.onmessage?.(message);
      });
      this.ready = new Promise((resolve) => frame.addEventListener("load", resolve));
      frame.contentDocument.open();
      frame.contentDocument.write(
        `<script>
          postMessage = (data) => parent.postMessage(data, "*");
          importScripts = (...urls) => Promise.all(urls.map((url) => new Promise((resolve) => {
            const script = document.createElement("script");
            script.src = url;
            script.onload = resolve;
            document.body.append(script);
          })));
        <\/script><body><script src="${url}"><\/script></body>`
      );
      frame.contentDocument.close();
    }
    postMessage(data) {
      this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })));
    }
    terminate() {
      this.frame.remove();
    }
  };
}
