"""Retrieval-augmented generation in LCEL, on a store that is there again after a restart.

Run it twice: the second run finds the documents and embeds nothing. The models are stand-ins that need no key; put
any chat model and any embedding model of LangChain in their place.
"""

import zlib

import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough
from langchain_zeusdb_vs import ZeusDBVectorStore


class WordEmbeddings(Embeddings):
    """A stand-in: texts that share words are alike. Real: OpenAIEmbeddings(model=...), HuggingFaceEmbeddings(...)."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        words = text.lower().replace("?", "").split() or [""]
        return sum(np.random.default_rng(zlib.crc32(w.encode())).standard_normal(64) for w in words).tolist()


DOCUMENTS = [
    Document("Honey is made by bees from nectar.", metadata={"topic": "food"}, id="honey"),
    Document("Bread is baked from flour, water and salt.", metadata={"topic": "food"}, id="bread"),
    Document("A hammer drives nails into wood.", metadata={"topic": "tools"}, id="hammer"),
]
chat_model = FakeListChatModel(responses=["Bees make it, from nectar."])  # real: init_chat_model("...")

prompt = ChatPromptTemplate.from_template("Answer from this context:\n{context}\n\nQuestion: {question}")

with ZeusDBVectorStore(WordEmbeddings(), path="rag_example.zdb") as store:
    if store.count() == 0:
        store.add_documents(DOCUMENTS)  # on disk when this returns: there is no save to forget
    retriever = store.as_retriever(k=2, filter={"topic": "food"})
    chain = (
        {
            "context": retriever | (lambda found: "\n".join(document.page_content for document in found)),
            "question": RunnablePassthrough(),
        }
        | prompt
        | chat_model
        | StrOutputParser()
    )
    print("retrieved:", [document.id for document in retriever.invoke("Who makes honey?")])
    print("answer:", chain.invoke("Who makes honey?"))

with ZeusDBVectorStore(WordEmbeddings(), path="rag_example.zdb") as again:
    print("after reopening:", again.count(), "documents")
